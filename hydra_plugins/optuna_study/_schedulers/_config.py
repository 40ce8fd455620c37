"""The config group `hydra/sweeper/scheduler`."""

from dataclasses import dataclass


@dataclass
class SchedulerConfig:
    """No scheduler: a trial that has started runs until it completes or is pruned."""

    _target_: str | None = None


@dataclass
class PromotionSchedulerConfig(SchedulerConfig):
    """Pauses each trial at steps that grow by a constant factor, and continues the best of each such step."""

    _target_: str | None = "hydra_plugins.optuna_study.PromotionScheduler"
    min_resource: int | None = None
    reduction_factor: int = 2


@dataclass
class FreezeThawSchedulerConfig(SchedulerConfig):
    """Continues the trial, or starts the configuration, that promises the largest improvement per second."""

    _target_: str | None = "hydra_plugins.optuna_study.FreezeThawScheduler"
    min_resource: int | None = None
    n_startup_trials: int = 4


SCHEDULERS: dict[str, type[SchedulerConfig]] = {
    "none": SchedulerConfig,
    "promotion": PromotionSchedulerConfig,
    "freeze_thaw": FreezeThawSchedulerConfig,
}
