"""The only evaluation of a sweep on the test set: the best checkpoint of its winner, after the last trial."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eyegender.core.config_keys import rename_keys
from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig
from eyegender.tracking.errors import first_line
from eyegender.training.checkpoints import load_checkpoint
from eyegender.training.tracking import CONFIG_FILE

if TYPE_CHECKING:
    from hydra_plugins.optuna_study import TrialRow

OVERRIDES_FILE = ".hydra/overrides.yaml"


def trial_folder(trial: TrialRow, sweep_dir: Path) -> Path:
    """The output folder of a trial: the stored one, or the one in the sweep's folder if that was moved."""
    stored = Path(trial.user_attrs.get("output_dir") or sweep_dir / str(trial.number))
    moved = sweep_dir / stored.name
    return moved if moved.is_dir() and not stored.is_dir() else stored


def find_damage(output_dir: Path) -> str | None:
    """Why a finished trial cannot be tested or retrained from its folder; None if its files are complete."""
    if not output_dir.is_dir():
        return f"its folder {output_dir} is gone"
    try:
        for name in (CONFIG_FILE, OVERRIDES_FILE):
            if not isinstance(yaml.safe_load((output_dir / name).read_text()), dict | list):
                return f"{output_dir / name} is damaged"
        for name in ("best.ckpt", "last.ckpt"):
            load_checkpoint(output_dir / "checkpoints" / name)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return first_line(error)
    except UserError as error:
        return str(error).partition(";")[0]
    return None


def evaluate_winner(output_dir: Path, uri: str | None, root: str | None, *, tied: bool = False) -> dict[str, float]:
    """`evaluate_trial` of the winner; `tied` means that other trials reached the same value, so none is the winner."""
    return evaluate_trial(output_dir, uri, root, tags={"winner": "tied" if tied else "true"})


def evaluate_trial(output_dir: Path, uri: str | None, root: str | None, *, tags: dict[str, str]) -> dict[str, float]:
    """Evaluate the best checkpoint of a finished trial on the test set, and complete its run and its folder.

    The run gets the test metrics, the predictions, the figures and the model.

    Args:
        output_dir: output folder of the trial.
        uri: tracking URI, which the folder does not contain if it has a password.
        root: folder of the local store.
        tags: tags to set on the run.

    Returns:
        The test metrics, such as `test/accuracy`.
    """
    from eyegender.training.run import evaluate_best

    fields: dict[str, Any] = yaml.safe_load((output_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    fields["tracking"] |= {"uri": uri, "root": root}
    fields["run_test"] = True
    config = TrainConfig.model_validate(rename_keys(fields, warn=False))  # a trial of an earlier version
    return evaluate_best(config, output_dir, tags=tags)


def retrain_command(output_dir: Path) -> str:
    """The command that trains a trial again and evaluates it on the test set."""
    overrides: list[str] = yaml.safe_load((output_dir / OVERRIDES_FILE).read_text(encoding="utf-8"))
    not_of_trial = ("sweeps=", "run_test=", "output=", "overwrite=", "hydra")
    return shlex.join(["eyegender", "train", *(o for o in overrides if not o.lstrip("+~").startswith(not_of_trial))])
