"""From which checkpoint a run resumes, and whether the command fits the run that wrote it.

Most options are restored with the weights or have already influenced them, so they cannot change any more: the config
that the run writes would record a value that was not used. The configs are compared before data is read.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eyegender.core.config_keys import rename_keys
from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_config
from eyegender.models.optimization import Progress, progress_of
from eyegender.training.checkpoints import Checkpoint, load_checkpoint, run_folder
from eyegender.training.classes import with_classes

if TYPE_CHECKING:
    from torch import Tensor

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.classifier import Classifier
    from eyegender.training.interruptions import RunLock

log = logging.getLogger("eyegender")

LENGTH = ("trainer.max_epochs", "trainer.max_steps")  # may change; the schedule follows
OPTIMIZATION = {"trainer.batch_size", "trainer.gradient_clip"}
# May change: keys of the machine, and keys of what is done with the result.
FREE = (
    "trainer.", "features.", "tracking.", "data.root", "data.reader.root", "data.split.file", "data.download",
    "data.reader.download", "ckpt_path", "run_test", "objectives", "output", "overwrite",
)  # fmt: skip


class Change(NamedTuple):
    """A key with another value than in the run that wrote the checkpoint."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}={_shown(self.before)}, got {_shown(self.now)}"


@dataclass(frozen=True)
class ResumePoint:
    """Where a run resumes.

    Args:
        path: path of the checkpoint.
        checkpoint: contents of the checkpoint.
        changes: keys that make the run longer or shorter than it was planned.
    """

    path: Path
    checkpoint: Checkpoint
    changes: tuple[Change, ...] = ()

    @property
    def progress(self) -> Progress:
        """How far the run had come."""
        return progress_of(self.checkpoint)

    @property
    def began_in(self) -> Path:
        """The folder in which the run began, or that of the checkpoint if it no longer exists."""
        folder = (self.checkpoint.get("run") or {}).get("began_in")
        return Path(folder) if folder and Path(folder).is_dir() else run_folder(self.path)


def find_resume_point(cfg: TrainConfig, lock: RunLock) -> ResumePoint | None:
    """The checkpoint that `ckpt_path` names, or None without one; locks the folders of its run.

    Raises:
        UserError: the checkpoint is missing or damaged, another process trains its run, or the command does not fit it.
    """
    if cfg.ckpt_path is None:
        return None
    path = Path(cfg.ckpt_path)
    if path.is_file():
        lock.take(run_folder(path))
    path, checkpoint = load_latest(path)
    lock.take(ResumePoint(path, checkpoint).began_in)
    return ResumePoint(path, checkpoint, tuple(check_config(checkpoint, cfg, path)))


def load_latest(path: Path) -> tuple[Path, Checkpoint]:
    """The checkpoint at `path`, or instead of `last.ckpt` the `best.ckpt` beside it, if that is of a later epoch.

    `best.ckpt` is written first, so it is one epoch ahead after a kill between the two.

    Raises:
        UserError: as for `load_checkpoint`.
    """
    checkpoint, best = load_checkpoint(path), path.with_name("best.ckpt")
    if path.name == "last.ckpt" and best.is_file():
        try:
            ahead = load_checkpoint(best)
        except UserError:
            return path, checkpoint  # BestCheckpoint warns about it
        same = ahead.get("run") is not None and ahead["run"]["key"] == (checkpoint.get("run") or {}).get("key")
        if same and ahead["global_step"] > checkpoint["global_step"]:
            log.info("resuming from %s, which is one epoch ahead of last.ckpt after a kill", best)
            return best, ahead
    return path, checkpoint


def checkpoint_config(cfg: TrainConfig) -> dict[str, Any]:
    """The config as a checkpoint stores it: as it was written, without secrets and without the tracking section."""
    stored: dict[str, Any] = redact_config({name: part for name, part in cfg.written.items() if name != "tracking"})
    return stored


def data_identity(data: EyesDataModule) -> dict[str, str]:
    """The identity of images and split as a checkpoint stores it."""
    return {"fingerprint": data.fingerprint, "split": data.split.fingerprint}


def check_config(checkpoint: Checkpoint, cfg: TrainConfig, path: Path) -> list[Change]:
    """Compare the config with that of the checkpoint; returns the keys that make the run longer or shorter.

    Raises:
        UserError: another key differs, or the run would be shorter than it already is.
    """
    saved = checkpoint.get("config") or _config_beside(path)
    if saved and (saved.get("data") or {}).get("classes") is not None:
        cfg = with_classes(cfg)
    changes = _changes(rename_keys(saved, warn=False), checkpoint_config(cfg)) if saved else []
    refused = [change for change in changes if change.key not in LENGTH]
    if refused:
        differences = "; ".join(map(str, refused))
        undo = " ".join(shlex.quote(f"{change.key}={_shown(change.before)}") for change in refused)
        raise UserError(
            f"ckpt_path={path} was trained with {differences}; set {undo}, or start a new run without ckpt_path"
        )
    done, trainer = progress_of(checkpoint), cfg.trainer
    epochs = done.epochs + (done.batches > 0)
    if trainer.max_epochs < epochs:
        raise UserError(
            f"trainer.max_epochs must be {epochs} or more, as many as ckpt_path={path} has begun, got "
            f"{trainer.max_epochs}; set trainer.max_epochs={epochs}"
        )
    steps = done.steps + (done.batches > 0)  # the step that ends an epoch also validates it
    if 0 < trainer.max_steps < steps:
        raise UserError(
            f"trainer.max_steps must be {steps} or more to resume from ckpt_path={path}, got {trainer.max_steps}; "
            f"set trainer.max_steps={steps}"
        )
    return changes


def check_data(checkpoint: Checkpoint, data: EyesDataModule, path: Path) -> None:
    """Compare the data with that of the checkpoint.

    Raises:
        UserError: images, labels or split differ.
    """
    saved, found = checkpoint.get("data"), data_identity(data)
    if saved is not None and saved != found:
        what = "images or labels" if saved["fingerprint"] != found["fingerprint"] else "split"
        raise UserError(
            f"ckpt_path={path} was trained on other {what} than {data.source} gives now; give the data of its run, "
            "or start a new run without ckpt_path"
        )


def check_network(checkpoint: Checkpoint, module: Classifier, cfg: TrainConfig) -> None:
    """Compare the network and its depth with those of the checkpoint.

    Raises:
        UserError: the architecture or the depth differs; names the first layer that does.
    """
    mine, saved = module.state_dict(), checkpoint["state_dict"]
    for name in [*mine, *saved]:
        if name not in saved or name not in mine or mine[name].shape != saved[name].shape:
            raise UserError(
                f"checkpoint {cfg.ckpt_path} belongs to another model: layer {name} is {_shape(saved, name)} there "
                f"and {_shape(mine, name)} in {cfg.model.name} with head {cfg.model.head}; "
                "use the model options of the run that it comes from"
            )
    if not checkpoint.get("optimizer_states"):
        raise UserError(
            f"checkpoint {cfg.ckpt_path} holds weights but no state of an optimizer; give a run's last.ckpt"
        )
    trained = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    wanted = [len(group["params"]) for group in module.parameter_groups()]
    if trained != wanted:
        raise UserError(
            f"checkpoint {cfg.ckpt_path} was trained at another depth ({sum(trained)} trainable tensors, not "
            f"{sum(wanted)}); set model.finetune_depth to that of its run"
        )


def restore_weights(resume: ResumePoint, module: Classifier, data: EyesDataModule, cfg: TrainConfig) -> None:
    """Load the weights of the checkpoint, because the frozen stages may run before Lightning loads it in the fit.

    Raises:
        UserError: the checkpoint belongs to another network or to other data.
    """
    check_network(resume.checkpoint, module, cfg)
    check_data(resume.checkpoint, data, resume.path)
    module.load_state_dict(resume.checkpoint["state_dict"])


def _shape(state: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, state[name].shape)) if name in state else "missing"


def _config_beside(path: Path) -> dict[str, Any] | None:
    """Hydra's config file of the run, for old checkpoints that do not contain their config."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path.parent.parent / ".hydra" / "config.yaml"))
    except (OSError, ValueError, OmegaConfBaseException):
        return None
    return redact_config(found) if isinstance(found, dict) else None


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    flat, mine = _flat(before), _flat(now)
    # A key that only one of two versions of this program has cannot be compared.
    both = [Change(key, flat[key], mine[key]) for key in mine if key in flat and not _free(key)]
    return [c for c in both if c.before != c.now and not _same_meaning(c.key, before, now)]


def _free(key: str) -> bool:
    return key.startswith(FREE) and key not in OPTIMIZATION and key not in LENGTH


def _same_meaning(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether both values are equal once references such as `${model.lr}` are resolved."""
    try:
        values = [OmegaConf.select(OmegaConf.create(config), key) for config in (before, now)]
    except OmegaConfBaseException:
        return False
    return bool(values[0] == values[1])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping) or prefix == "data.subset":  # may be null
        return {prefix: config}
    return {
        k: v for name, part in config.items() for k, v in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
