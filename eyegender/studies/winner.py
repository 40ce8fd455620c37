"""The one look at the test part that a sweep gets: its winner's best checkpoint, after the last trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eyegender.core.config_keys import rename_keys
from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig
from eyegender.tracking.faults import first_line
from eyegender.training.checkpoints import load_checkpoint
from eyegender.training.outputs import METRICS_FILE
from eyegender.training.tracking import CONFIG_FILE

if TYPE_CHECKING:
    from hydra_plugins.optuna_study import TrialRow

OVERRIDES_FILE = ".hydra/overrides.yaml"


def folder_of(trial: TrialRow, sweep_dir: Path) -> Path:
    """Where the trial left its files: where it noted, or in the sweep's folder should that have been moved."""
    noted = Path(trial.user_attrs.get("output_dir") or sweep_dir / str(trial.number))
    moved = sweep_dir / noted.name
    return moved if moved.is_dir() and not noted.is_dir() else noted


def what_is_missing(output_dir: Path) -> str | None:
    """Why a finished trial cannot be tested or trained again from its folder, in a few words, or None."""
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


def test_winner(
    output_dir: Path,
    uri: str | None,
    root: str | None,
    *,
    tied: bool = False,  # noqa: PT028  # no test
) -> dict[str, float]:
    """Test the best checkpoint of a finished trial and add the result to its run and its output folder.

    Args:
        output_dir: of the trial.
        uri: tracking URI; a trial's folder holds none with a password.
        root: folder of the embedded store.
        tied: whether other trials reached the same value, so that its tag does not call it the winner.

    Returns:
        The test/ metrics.
    """
    from eyegender.training.run import evaluate_best

    fields: dict[str, Any] = yaml.safe_load((output_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    fields["tracking"] |= {"uri": uri, "root": root}
    fields["run_test"] = True
    config = TrainConfig.model_validate(rename_keys(fields, warn=False))  # a trial of an earlier version
    return evaluate_best(config, output_dir, tags={"winner": "tied" if tied else "true"})


test_winner.__test__ = False  # type: ignore[attr-defined]  # a name that pytest would collect


def again(output_dir: Path) -> str:
    """The command that trains a trial again, test part included."""
    overrides: list[str] = yaml.safe_load((output_dir / OVERRIDES_FILE).read_text(encoding="utf-8"))
    kept = [_quoted(o) for o in overrides if not o.lstrip("+~").startswith(("sweeps=", "run_test=", "hydra"))]
    return " ".join(["python -m eyegender.train", *kept])


def metrics_of(output_dir: Path) -> dict[str, Any]:
    """What a finished trial left in metrics.json."""
    content: dict[str, Any] = json.loads((output_dir / METRICS_FILE).read_text())
    return content


def _quoted(override: str) -> str:
    import shlex

    return shlex.quote(override)
