"""Which checkpoint a run goes on from, and whether the command asks for anything else than that run did.

What is restored with the weights, or has already worked on them, cannot be changed any more: a file that recorded
another value would record something that did not happen. So the written configs are compared, before data are read.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eyegender.core.config_keys import rename_keys
from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_config
from eyegender.models.optimization import progress_of
from eyegender.training.checkpoint_io import load_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule

log = logging.getLogger("eyegender")

Checkpoint = dict[str, Any]

LENGTH = ("trainer.max_epochs", "trainer.max_steps")  # the schedule is fitted to a new one
OPTIMIZATION = {"trainer.batch_size", "trainer.gradient_clip"}
# Machine and place, and what is only done with the result.
FREE = (
    "trainer.", "features.", "tracking.", "data.root", "data.reader.root", "data.split.file", "data.download",
    "data.reader.download", "ckpt_path", "run_test", "objectives",
)  # fmt: skip


class Change(NamedTuple):
    """A key that the checkpoint's run had another value of."""

    key: str
    before: Any
    now: Any

    @property
    def told(self) -> str:
        return f"{self.key}={_shown(self.before)}, got {_shown(self.now)}"


def load_latest(path: Path) -> tuple[Path, Checkpoint]:
    """The checkpoint, or the `best.ckpt` beside a `last.ckpt` where it is of a later epoch of the same run.

    The best is written first: a kill in between leaves it ahead, and it is a whole checkpoint, too.

    Raises:
        UserError: as `load_checkpoint`.
    """
    checkpoint, best = load_checkpoint(path), path.with_name("best.ckpt")
    if path.name == "last.ckpt" and best.is_file():
        try:
            ahead = load_checkpoint(best)
        except UserError:
            return path, checkpoint  # told where the best epoch is looked for
        same = ahead.get("run") is not None and ahead["run"]["key"] == (checkpoint.get("run") or {}).get("key")
        if same and ahead["global_step"] > checkpoint["global_step"]:
            log.info("going on from %s, which a kill has left one epoch ahead of last.ckpt", best)
            return best, ahead
    return path, checkpoint


def written_config(cfg: TrainConfig) -> dict[str, Any]:
    """What a checkpoint keeps of the config: as it was written, without secrets, machine and place."""
    kept: dict[str, Any] = redact_config({name: part for name, part in cfg.written.items() if name != "tracking"})
    return kept


def data_identity(data: EyesDataModule) -> dict[str, str]:
    """What a checkpoint keeps of the pictures and their split."""
    return {"fingerprint": data.fingerprint, "split": data.split.fingerprint}


def check_config(checkpoint: Checkpoint, cfg: TrainConfig, path: Path) -> list[Change]:
    """What the command asks to be longer or shorter than in the checkpoint's run.

    Raises:
        UserError: it asks for anything else to be different, or for less than has been done.
    """
    saved = checkpoint.get("config") or _config_beside(path)
    changes = _changes(rename_keys(saved, warn=False), written_config(cfg)) if saved else []
    refused = [change for change in changes if change.key not in LENGTH]
    if refused:
        told, undo = (
            "; ".join(c.told for c in refused),
            " ".join(shlex.quote(f"{c.key}={_shown(c.before)}") for c in refused),
        )
        raise UserError(f"ckpt_path={path} was trained with {told}; set {undo}, or start anew without ckpt_path")
    done, trainer = progress_of(checkpoint), cfg.trainer
    epochs = done.epochs + (done.batches > 0)
    if trainer.max_epochs < epochs:
        raise UserError(
            f"trainer.max_epochs must be {epochs} or more, as many as ckpt_path={path} has begun, got "
            f"{trainer.max_epochs}; set trainer.max_epochs={epochs}"
        )
    steps = done.steps + (done.batches > 0)  # the step that ends an epoch validates it
    if 0 < trainer.max_steps < steps:
        raise UserError(
            f"trainer.max_steps must be {steps} or more to go on from ckpt_path={path}, got {trainer.max_steps}; "
            f"set trainer.max_steps={steps}"
        )
    return changes


def check_data(checkpoint: Checkpoint, data: EyesDataModule, path: Path) -> None:
    """After reading.

    Raises:
        UserError: other pictures or labels than the checkpoint's run had, or another split of them.
    """
    saved, found = checkpoint.get("data"), data_identity(data)
    if saved is not None and saved != found:
        what = "pictures or labels" if saved["fingerprint"] != found["fingerprint"] else "split"
        raise UserError(
            f"ckpt_path={path} was trained on other {what} than {data.source} gives now; give the data of its run, "
            "or start anew without ckpt_path"
        )


def _config_beside(path: Path) -> dict[str, Any] | None:
    """Hydra's record of the run, for checkpoints from before they kept their config; its secrets are set aside."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path.parent.parent / ".hydra" / "config.yaml"))
    except (OSError, ValueError, OmegaConfBaseException):
        return None
    return redact_config(found) if isinstance(found, dict) else None


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    flat, mine = _flat(before), _flat(now)
    # A key that one of two versions of this program does not know has no two values.
    both = [Change(key, flat[key], mine[key]) for key in mine if key in flat and not _free(key)]
    return [c for c in both if c.before != c.now and not _same_meaning(c.key, before, now)]


def _free(key: str) -> bool:
    return key.startswith(FREE) and key not in OPTIMIZATION and key not in LENGTH


def _same_meaning(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether one of the two is written as a reference to what the other names."""
    try:
        values = [OmegaConf.select(OmegaConf.create(config), key) for config in (before, now)]
    except OmegaConfBaseException:
        return False
    return bool(values[0] == values[1])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping) or prefix == "data.subset":  # which may be null
        return {prefix: config}
    return {
        k: v for name, part in config.items() for k, v in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
