"""The config groups `hydra/sweeper/sampler` and `hydra/sweeper/pruner`.

Samplers and pruners are Optuna's, by short name. Their fields are the constructor arguments with Optuna's defaults; an
argument of null is not passed. `seed` is the seed of worker 0; worker i uses seed + i (grid and qmc use one for all).
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class SamplerConfig:
    """Fields of every sampler."""

    _target_: str = MISSING
    seed: int | None = None


@dataclass
class TPESamplerConfig(SamplerConfig):
    """Tree-structured Parzen estimator, which models good and bad values; it handles conditions."""

    _target_: str = "optuna.samplers.TPESampler"
    consider_prior: bool | None = None
    prior_weight: float | None = None
    consider_magic_clip: bool | None = None
    consider_endpoints: bool | None = None
    n_startup_trials: int = 10
    n_ei_candidates: int = 24
    gamma: Any | None = None
    weights: Any | None = None
    multivariate: bool | None = None
    group: bool = False
    warn_independent_sampling: bool | None = None
    constant_liar: bool = True
    constraints_func: Any | None = None


@dataclass
class RandomSamplerConfig(SamplerConfig):
    """Independent random values."""

    _target_: str = "optuna.samplers.RandomSampler"


@dataclass
class CmaEsSamplerConfig(SamplerConfig):
    """Covariance matrix adaptation, for numbers; it needs the package cmaes."""

    _target_: str = "optuna.samplers.CmaEsSampler"
    x0: dict[str, Any] | None = None
    sigma0: float | None = None
    n_startup_trials: int = 1
    independent_sampler: Any | None = None
    warn_independent_sampling: bool = False
    consider_pruned_trials: bool = False
    restart_strategy: Any | None = None
    popsize: int | None = None
    inc_popsize: int = -1
    use_separable_cma: bool = False
    with_margin: bool = False
    lr_adapt: bool = False
    source_trials: Any | None = None


@dataclass
class NSGAIISamplerConfig(SamplerConfig):
    """A genetic algorithm for several objectives."""

    _target_: str = "optuna.samplers.NSGAIISampler"
    population_size: int = 50
    mutation: Any | None = None
    mutation_prob: float | None = None
    crossover: Any | None = None
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5
    constraints_func: Any | None = None


@dataclass
class NSGAIIISamplerConfig(NSGAIISamplerConfig):
    """A genetic algorithm for more than three objectives."""

    _target_: str = "optuna.samplers.NSGAIIISampler"
    reference_points: list[list[float]] | None = None
    dividing_parameter: int = 3


@dataclass
class GPSamplerConfig(SamplerConfig):
    """A Gaussian process, for few and expensive trials; it needs PyTorch."""

    _target_: str = "optuna.samplers.GPSampler"
    independent_sampler: Any | None = None
    n_startup_trials: int = 10
    deterministic_objective: bool = False
    constraints_func: Any | None = None
    warn_independent_sampling: bool = False


@dataclass
class QMCSamplerConfig(SamplerConfig):
    """A quasi-random sequence, which covers the space evenly."""

    _target_: str = "optuna.samplers.QMCSampler"
    qmc_type: str = "sobol"
    scramble: bool = False
    independent_sampler: Any | None = None
    warn_asynchronous_seeding: bool = False
    warn_independent_sampling: bool = False


@dataclass
class GridSamplerConfig(SamplerConfig):
    """Every combination once; the values come from `params`, which must be finite."""

    _target_: str = "optuna.samplers.GridSampler"
    _partial_: bool = True  # has no effect; hydra-optuna-sweeper's own group has it


@dataclass
class BruteForceSamplerConfig(SamplerConfig):
    """Every combination once, with conditions."""

    _target_: str = "optuna.samplers.BruteForceSampler"
    avoid_premature_stop: bool = False


@dataclass
class MOTPESamplerConfig(SamplerConfig):
    """Removed from Optuna; the error of this choice names its successor."""

    _target_: str = "optuna.samplers.MOTPESampler"


@dataclass
class PrunerConfig:
    """Fields of every pruner."""

    _target_: str = MISSING


@dataclass
class NopPrunerConfig(PrunerConfig):
    """Prunes no trial."""

    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class MedianPrunerConfig(PrunerConfig):
    """Prunes a trial that is worse than the median of earlier trials at the same step."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class PercentilePrunerConfig(MedianPrunerConfig):
    """Like the median, with another percentage."""

    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = 25.0  # 0..100: this percentage of the trials, the best ones, survives


@dataclass
class SuccessiveHalvingPrunerConfig(PrunerConfig):
    """Promotes the best trials at steps that grow by a constant factor."""

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = "auto"
    reduction_factor: int = 4
    min_early_stopping_rate: int = 0
    bootstrap_count: int = 0


@dataclass
class HyperbandPrunerConfig(PrunerConfig):
    """Several successive halvings that start at different steps."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1
    max_resource: Any = "auto"
    reduction_factor: int = 3
    bootstrap_count: int = 0


@dataclass
class ThresholdPrunerConfig(PrunerConfig):
    """Prunes a trial outside fixed bounds; set `lower`, `upper` or both."""

    _target_: str = "optuna.pruners.ThresholdPruner"
    lower: float | None = None
    upper: float | None = None
    n_warmup_steps: int = 0
    interval_steps: int = 1


@dataclass
class PatientPrunerConfig(PrunerConfig):
    """Lets `wrapped_pruner`, the config of another pruner, prune only after a time without improvement."""

    _target_: str = "optuna.pruners.PatientPruner"
    wrapped_pruner: Any = None
    patience: int = 3
    min_delta: float = 0.0


@dataclass
class WilcoxonPrunerConfig(PrunerConfig):
    """Compares the reports of a trial with those of the best one by a signed-rank test."""

    _target_: str = "optuna.pruners.WilcoxonPruner"
    p_threshold: float = 0.1
    n_startup_steps: int = 2


SAMPLERS: dict[str, type[SamplerConfig]] = {
    "tpe": TPESamplerConfig,
    "random": RandomSamplerConfig,
    "cmaes": CmaEsSamplerConfig,
    "nsgaii": NSGAIISamplerConfig,
    "nsgaiii": NSGAIIISamplerConfig,
    "gp": GPSamplerConfig,
    "qmc": QMCSamplerConfig,
    "grid": GridSamplerConfig,
    "brute_force": BruteForceSamplerConfig,
    "motpe": MOTPESamplerConfig,
}

PRUNERS: dict[str, type[PrunerConfig]] = {
    "nop": NopPrunerConfig,
    "median": MedianPrunerConfig,
    "percentile": PercentilePrunerConfig,
    "successive_halving": SuccessiveHalvingPrunerConfig,
    "hyperband": HyperbandPrunerConfig,
    "threshold": ThresholdPrunerConfig,
    "patient": PatientPrunerConfig,
    "wilcoxon": WilcoxonPrunerConfig,
}
