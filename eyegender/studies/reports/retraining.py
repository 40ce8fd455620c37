"""The commands that train the best trials of a study again, if their folders still say how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from eyegender.studies.winner import OVERRIDES_FILE, retrain_command, trial_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hydra_plugins.optuna_study import TrialRow


def retrain_commands(rows: Sequence[TrialRow], folder: Path) -> tuple[list[str], list[str]]:
    """The commands, quoted for a shell, and one sentence for each trial whose command is not known any more.

    Args:
        rows: the trials.
        folder: folder of the sweep, where trials are looked for whose own folder was moved.
    """
    commands, sentences = [], []
    for row in rows:
        try:
            commands.append(retrain_command(trial_folder(row, folder)))
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            sentences.append(
                f"How trial {row.number} was trained is unknown, because the folder of its run has no readable "
                f"{OVERRIDES_FILE}."
            )
    return commands, sentences
