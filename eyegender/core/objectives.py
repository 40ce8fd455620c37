"""Which way is better: every metric has its own direction, and what follows from it is worked out in this one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

# Of every other validation metric more is better.
LESS_IS_BETTER = {"val/loss", "val/calibration_error", "val/fp", "val/fn", "latency_ms", "parameters"}
_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def mode_of(metric: str) -> str:
    """`max` or `min`, as Lightning calls it."""
    return "min" if metric in LESS_IS_BETTER else "max"


def directions(monitor: str, mode: str, objectives: Sequence[str] | None) -> str | list[str]:
    """What a sweep does with what a run gives back, as Optuna calls it: one word, or one for each objective."""
    if objectives is None:
        return _DIRECTIONS[mode]
    return [_DIRECTIONS[mode if name == monitor else mode_of(name)] for name in objectives]


def register_resolvers() -> None:
    """For config files: `${eyegender.mode:METRIC}` and `${eyegender.directions:MONITOR,MODE,OBJECTIVES}`."""
    OmegaConf.register_new_resolver("eyegender.mode", lambda metric: mode_of(str(metric)), replace=True)
    OmegaConf.register_new_resolver("eyegender.directions", directions, replace=True)


def check_mode(metric: str, mode: str, key: str) -> None:
    """Raises UserError where the worst value would be taken for the best; `key` is what names the metric."""
    if mode != mode_of(metric):
        worst = "largest" if mode == "max" else "smallest"
        told = f"mode must be {mode_of(metric)} for {key}={metric}, whose {worst} value is its worst"
        raise UserError(f"{told}, got {mode}; remove mode=")


def check_directions(cfg: DictConfig) -> None:
    """Raises UserError where a sweep would look for the worst run, or for another number of objectives."""
    given = OmegaConf.select(cfg, "hydra.sweeper.direction")
    if given is None:  # not one of Optuna's sweepers
        return
    many = isinstance(given, list | tuple) or OmegaConf.is_list(given)
    words = [str(getattr(one, "name", one)).rpartition(".")[2].lower() for one in (given if many else [given])]
    wanted = directions(cfg.monitor, cfg.mode, cfg.objectives)
    if words != (wanted if isinstance(wanted, list) else [wanted]):
        what = f"objectives={list(cfg.objectives)}" if cfg.objectives is not None else f"monitor={cfg.monitor}"
        told = f"[{','.join(wanted)}]" if isinstance(wanted, list) else wanted
        got = f"[{','.join(words)}]" if many else words[0]
        raise UserError(
            f"hydra.sweeper.direction must be {told} for {what}, got {got}; set hydra.sweeper.direction={told}"
        )
