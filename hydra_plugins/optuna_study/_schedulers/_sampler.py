"""The configurations that the freeze-thaw model thinks are worth most, through Optuna's interface of samplers."""

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from . import Curve
from ._curve_model import CurveModel, Encoding
from ._freeze_thaw import Worth, candidates, random_configs
from ._pausing import curves_of


class FreezeThawSampler(BaseSampler):
    """Suggests the configuration with the largest expected improvement per second.

    It uses the learning curves of all trials and their measured seconds per step, also without
    `scheduler=freeze_thaw`. The first configurations cover the space evenly.

    Args:
        max_resource: last step of a full training, at least 1.
        n_startup_trials: number of configurations that cover the space before the model suggests any.
        random_share: share of the later configurations that are random, 0..1, for what the model does not know.
        seed: of what is random.
    """

    def __init__(
        self, max_resource: int, n_startup_trials: int = 4, random_share: float = 0.1, seed: int | None = None
    ) -> None:
        self.max_resource = max_resource
        self.n_startup_trials = n_startup_trials
        self.random_share = random_share
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._last: CurveModel | None = None

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All parameters of all trials; a configuration has some of them."""
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            space |= other.distributions
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]  # noqa: ARG002
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        maximize = study.directions[0].name == "MAXIMIZE"
        curves = [c for c in curves_of(study.get_trials(deepcopy=False), maximize) if c.params and c.state != "failed"]
        if sum(bool(curve.values) for curve in curves) < self.n_startup_trials:
            return self._farthest(curves)
        if self._rng.random() < self.random_share:
            return {}
        worth = Worth(curves, self.max_resource, fitted=self._last)
        self._last = worth.model
        return dict(worth.of_new()[1])

    def _farthest(self, curves: list[Curve]) -> dict[str, Any]:
        """Of some random configurations, the one that is farthest from all others."""
        configs = random_configs(curves, self._rng, 50)
        encode = Encoding.of(curves)
        points, others = encode(configs), encode([curve.params for curve in curves])
        distances = np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1)
        return configs[int(np.argmax(distances))]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)
