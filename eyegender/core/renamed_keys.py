"""Keys of earlier versions, on command lines, in config files and in what runs have kept."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf, flag_override

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

RENAMED = {
    "model.weight_decay": "optimizer.weight_decay",
    "model.schedule": "scheduler",
    "model.warmup": "scheduler.warmup",
}
# What the old names stood for: the classes that `model.schedule` chose.
_OPTIMIZER = {"_target_": "torch.optim.AdamW", "_partial_": True}
_SCHEDULERS: dict[str, dict[str, Any]] = {
    "onecycle": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "_partial_": True},
    "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True},
    "constant": {
        "_target_": "torch.optim.lr_scheduler.ConstantLR", "_partial_": True, "factor": 1.0, "total_iters": 0,
    },
}  # fmt: skip
_OWN = {"model", "optimizer", "scheduler"}
_OVERRIDE = re.compile(r"([+~]*)([\w.]+)(=|$)")

log = logging.getLogger("eyegender")


def with_new_names(arguments: list[str]) -> list[str]:
    """A command line in which every key has the name it has now; what is swept or fixed stays as it is."""
    return [_renamed(argument) for argument in arguments]


def with_new_keys(config: Any, *, tell: bool = True) -> Any:
    """A run's whole config, composed now or kept by an earlier version, in which every key has the name it has now.

    A file of the user's own may still set an old key: it then replaces what the groups say.

    Args:
        config: nested mappings; never changed itself.
        tell: say once that a key has a new name.
    """
    model = config.get("model") if isinstance(config, Mapping) else None
    old = {key.partition(".")[2] for key in RENAMED} & model.keys() if isinstance(model, Mapping) else set()
    if not old:
        return config
    assert isinstance(model, Mapping)
    moved = {**config, "model": {name: value for name, value in model.items() if name not in old}}
    if "weight_decay" in old:
        moved["optimizer"] = {**config.get("optimizer", _OPTIMIZER), "weight_decay": model["weight_decay"]}
    schedule = str(model["schedule"]) if "schedule" in old else None
    chosen = _SCHEDULERS.get(schedule, {"_target_": schedule}) if schedule else None
    moved["scheduler"] = {**(chosen or config.get("scheduler", _SCHEDULERS["onecycle"]))}
    if "warmup" in old:
        # A constant rate had no warm-up, whatever was written.
        moved["scheduler"]["warmup"] = 0.0 if schedule == "constant" else model["warmup"]
    for name in sorted(old) if tell else ():
        _tell(f"model.{name}")
    return moved


class RenameKeys(Callback):
    """A callback of Hydra, which `conf/train.yaml` names: what Hydra writes down has the new names, too."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        own = OmegaConf.to_container(OmegaConf.masked_copy(config, [name for name in _OWN if name in config]))
        moved = with_new_keys(own)
        if moved is not own:
            with flag_override(config, ["struct", "readonly"], [False, False]):
                for name in _OWN & moved.keys():
                    config[name] = moved[name]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        for name, new in RENAMED.items():
            if OmegaConf.select(config, name) is not None:  # each trial is composed anew from the same files
                from eyegender.core.command import USER_MISTAKE, print_error

                print_error(UserError(f"a config file sets {name}, which is now called {new}; rename it there"))
                raise SystemExit(USER_MISTAKE)
        params = OmegaConf.select(config, "hydra.sweeper.params")
        if params:
            with flag_override(config, ["struct", "readonly"], [False, False]):
                written: Any = OmegaConf.to_container(params, resolve=False)
                config.hydra.sweeper.params = {_renamed(key): value for key, value in written.items()}


def _renamed(argument: str) -> str:
    found = _OVERRIDE.match(argument)
    if found is None or found[2] not in RENAMED:
        return argument
    _tell(found[2])
    return f"{found[1]}{RENAMED[found[2]]}{argument[found.start(3) :]}"


@cache  # once in each process
def _tell(key: str) -> None:
    log.warning("%s is now called %s; the old name still works", key, RENAMED[key])
