"""What optuna-dashboard shows of a study: names of its objectives, and notes with the best configuration and links."""

from __future__ import annotations

import hashlib
import logging
import shlex
import warnings
from typing import TYPE_CHECKING

from eyegender.studies.reports.drawn_trials import address_of, metric_names
from eyegender.studies.reports.retraining import retrain_commands
from eyegender.tracking.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eyegender.studies.selection_bias import SelectionBias
    from hydra_plugins.optuna_study import StudyHandle, StudyStatus, TrialRow

log = logging.getLogger("eyegender")

SHOWN, _WIDTH = 5, 90
# A note takes three writes to the storage.
MOST_NOTES = 100
_DIGEST = "dashboard_note"  # user attribute of a study: of the note that was written, so that an edited one stays


def name_metrics(study: StudyHandle, names: Sequence[str]) -> None:
    """Name the objectives of a study in Optuna, as `study.metric_names`; without names, or with as many, once."""
    import optuna

    if len(names) != len(study.directions):
        return
    loaded = study.load()
    if loaded.metric_names != list(names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            loaded.set_metric_names(list(names))


def write_notes(study: StudyHandle, status: StudyStatus, folder: Path, bias: SelectionBias | None = None) -> None:
    """Write a note about the study and, for the best hundred trials, a link to the MLflow run.

    Notes that somebody has edited stay. Without optuna-dashboard, nothing is written.

    Args:
        study: the study.
        status: its state.
        folder: folder of the sweep.
        bias: what the best value owes to luck, if it is known.
    """
    try:
        from optuna_dashboard import get_note, save_note
    except ImportError:
        return
    try:
        loaded = study.load()
        before, text = get_note(loaded), study_note(status, metric_names(loaded, status), folder, bias)
        if text != before and (not before or _digest(before) == study.user_attrs.get(_DIGEST)):
            study.set_user_attr(_DIGEST, _digest(text))
            save_note(loaded, text)
        rows = [*status.best, *(row for row in status.trials if row not in status.best)]
        for row in rows[:MOST_NOTES]:
            trial = study.trial(row.storage_number) if address_of(row.user_attrs) else None
            if trial is not None and not get_note(trial):
                save_note(trial, f"[Run in MLflow]({address_of(row.user_attrs)})")
    except Exception as error:  # the study itself is complete
        log.warning("optuna-dashboard: the notes are incomplete (%s)", first_line(error))


def study_note(status: StudyStatus, metrics: Sequence[str], folder: Path, bias: SelectionBias | None = None) -> str:
    """The best configuration and how to train it again, in Markdown."""
    parts = []
    if best := status.winner or next(iter(status.best), None):
        values = ", ".join(f"{name} {value:.4g}" for name, value in zip(metrics, best.values, strict=True))
        which = "On the Pareto front" if len(metrics) > 1 else "Best"
        parts.append(f"**{which}: {_linked(best)}**, {values}")
        parts.append("\n".join(f"- {_code(key)} = {_code(value)}" for key, value in best.params.items()))
        parts += [] if bias is None else [" ".join(bias.sentences)]
        commands, _ = retrain_commands([best], folder)
        parts += [f"```\n{_in_lines(command)}\n```" for command in commands]
        if others := [row for row in status.best if row.number != best.number][:SHOWN]:
            parts.append("Next: " + ", ".join(_linked(row) for row in others))
    else:
        parts.append("No trial is complete yet.")
    if address := address_of(status.user_attrs):
        parts.append(f"[The study in MLflow]({address})")
    return "\n\n".join(part for part in parts if part)


def _in_lines(command: str) -> str:
    """A command in lines of about 90 characters, because a note does not break lines; it can be pasted as it is."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1] and len(lines[-1]) + len(word) > _WIDTH:
            lines.append("  ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return " \\\n".join(lines)


def _linked(row: TrialRow) -> str:
    text, address = f"trial {row.number}", address_of(row.user_attrs)
    return f"[{text}]({address})" if address else text


def _code(value: object) -> str:
    return f"`{str(value).replace('`', chr(39))}`"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
