"""The direction of each metric, and what follows from it for checkpoints and sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from eyegender.core.command_line.dict_values import RESOLVER, from_interpolation
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

# For every other validation metric, a higher value is better.
LOWER_IS_BETTER = {"val/loss", "val/calibration_error", "val/fp", "val/fn", "latency_ms", "parameters"}
_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def mode_of(metric: str) -> str:
    """The direction of a metric in Lightning's words: `max` or `min`."""
    return "min" if metric in LOWER_IS_BETTER else "max"


def directions(monitor: str, mode: str, objectives: Sequence[str] | None) -> str | list[str]:
    """The direction of a sweep in Optuna's words, or one direction for each objective."""
    if objectives is None:
        return _DIRECTIONS[mode]
    return [_DIRECTIONS[mode if name == monitor else mode_of(name)] for name in objectives]


def register_resolvers() -> None:
    """Register the resolvers of our config files.

    They are `${eyegender.mode:METRIC}`, `${eyegender.directions:MONITOR,MODE,OBJECTIVES}` and, for a folder that may be
    null, `${eyegender.folder:FOLDER,OTHERWISE}`. `${eyegender.json:TEXT}` is for `dict_values`.
    """
    OmegaConf.register_new_resolver("eyegender.mode", lambda metric: mode_of(str(metric)), replace=True)
    OmegaConf.register_new_resolver("eyegender.directions", directions, replace=True)
    OmegaConf.register_new_resolver("eyegender.folder", _folder, replace=True)
    OmegaConf.register_new_resolver(RESOLVER, from_interpolation, replace=True)


def _folder(given: str | None, otherwise: str) -> str:
    return otherwise if given is None else str(Path(given).expanduser())


def check_mode(metric: str, mode: str, key: str) -> None:
    """Raises UserError if the worst value would count as the best.

    Args:
        metric: name of the metric.
        mode: `max` or `min`.
        key: the config key that names the metric.
    """
    if mode != mode_of(metric):
        worst = "largest" if mode == "max" else "smallest"
        raise UserError(
            f"mode must be {mode_of(metric)} for {key}={metric}, whose {worst} value is its worst, got {mode}; "
            "remove mode="
        )


def check_directions(cfg: DictConfig) -> None:
    """Raises UserError if a sweep would look for the worst run, or has a wrong number of directions."""
    given = OmegaConf.select(cfg, "hydra.sweeper.direction")
    if given is None:  # the sweeper does not use Optuna
        return
    many = isinstance(given, list | tuple) or OmegaConf.is_list(given)
    words = [str(getattr(one, "name", one)).rpartition(".")[2].lower() for one in (given if many else [given])]
    wanted = directions(cfg.monitor, cfg.mode, cfg.objectives)
    if words != (wanted if isinstance(wanted, list) else [wanted]):
        what = f"objectives={list(cfg.objectives)}" if cfg.objectives is not None else f"monitor={cfg.monitor}"
        expected = f"[{','.join(wanted)}]" if isinstance(wanted, list) else wanted
        got = f"[{','.join(words)}]" if many else words[0]
        raise UserError(
            f"hydra.sweeper.direction must be {expected} for {what}, got {got}; set hydra.sweeper.direction={expected}"
        )
