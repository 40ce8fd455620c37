"""Continues the trial, or starts the configuration, that promises the largest improvement per second."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import START, Curve, Scheduler

if TYPE_CHECKING:
    import numpy as np

    from ._curve_model import Array, CurveModel

_CANDIDATES = 200
import os
_EVERY=float(os.environ.get("EVERY","0.2"))
_GAMMA=float(os.environ.get("GAMMA","1"))
_STAY = float(os.environ.get("STAY","1.5"))  # another trial must promise so many times more than the running one, for a change costs time, too
_LEAST = float(os.environ.get('LEAST','0.1'))  # cost of a trial beside its seconds, as a share of the most expensive trial
_WORTH = 0.02  # probability of being the best from which a paused trial is trained to its end when nothing may start


class FreezeThawScheduler(Scheduler):
    """Pauses a trial when another one promises more per second.

    After each report, and whenever a worker is free, a model of all learning curves so far predicts what each trial and
    each new configuration will reach. Their expected improvement over the best trial is divided by the seconds that it
    costs to get there, from the measured seconds per step. Use it with `sampler=freeze_thaw`, which suggests the
    configurations that the same model thinks are worth most.

    Args:
        max_resource: last step of a full training, at least 1.
        n_startup_trials: so many trials are reported before anything is paused, at least 2.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, max_resource: int, min_resource: int | None = None, n_startup_trials: int = 4) -> None:
        if max_resource < 1 or n_startup_trials < 2:
            raise ValueError(
                f"max_resource must be at least 1 and n_startup_trials at least 2, got {max_resource} and "
                f"{n_startup_trials}"
            )
        self.max_resource = max_resource
        self.min_resource = max(1, round(0.3 * max_resource)) if min_resource is None else min_resource
        self.n_startup_trials = n_startup_trials
        # Only to save time: the hyperparameters of the last model are used until there are many more reports.
        self._last: CurveModel | None = None

    def should_pause(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        step = curve.last_step
        if step is None or step < self.min_resource or step >= self.max_resource:
            return False
        if self._starting(curves):
            return step == self.min_resource
        if (step - self.min_resource) % max(1, round(_EVERY * self.max_resource)):
            return False
        worth = Worth(curves, self.max_resource, running=curve, fitted=self._last)
        self._last = worth.model
        if "PROB" in os.environ: return worth.probability(curve) < float(os.environ["PROB"])
        others = [worth.of(other) for other in curves if other.state == "paused"]
        return max([worth.of_new()[0], *others]) > _STAY * worth.of(curve)

    def choose(self, curves: Sequence[Curve], may_start: bool) -> int | str | None:
        paused = [curve for curve in curves if curve.state == "paused"]
        if not paused or (may_start and self._starting(curves)):
            return START if may_start else None
        worth = Worth(curves, self.max_resource, fitted=self._last)
        self._last = worth.model
        best = max(paused, key=worth.of)
        if may_start:
            return START if worth.of_new()[0] >= worth.of(best) else best.number
        leader = worth.leader()
        if leader.state == "paused":
            return leader.number
        return best.number if worth.probability(best) > _WORTH else None

    def _starting(self, curves: Sequence[Curve]) -> bool:
        """Whether too few trials went far enough for predictions."""
        far = [c for c in curves if c.last_step is not None and c.last_step >= self.min_resource]
        return len(far) < self.n_startup_trials


class Worth:
    """Expected improvement per second of trials and of new configurations.

    Args:
        curves: all trials of the study.
        max_resource: last step of a full training.
        running: the trial that asks; other running ones are expected to finish.
        fitted: an earlier model.
    """

    def __init__(
        self,
        curves: Sequence[Curve],
        max_resource: int,
        running: Curve | None = None,
        fitted: "CurveModel | None" = None,
    ) -> None:
        from ._curve_model import CurveModel

        self.max_resource = max_resource
        alive = [curve for curve in curves if curve.state != "failed"]
        self.model = CurveModel(alive, max_resource, fitted)
        self._rows = {curve.number: row for row, curve in enumerate(self.model.curves)}
        pending = [c.number for c in alive if c.state in {"running", "waiting"} and (not running or c != running)]
        self.model.expect(pending)
        mean, deviation = self.model.final(self.model.points)
        seen = [row for row, curve in enumerate(self.model.curves) if curve.values]
        self._target = float(max(mean[seen]))
        self._leader = self.model.curves[max(seen, key=lambda row: mean[row])]
        self._mean, self._deviation = mean, deviation
        self._prices = self.model.log_price(self.model.points)
        # Trials are limited, too: a cheap one costs at least this much.
        self._least = _LEAST * max_resource * math.exp(max(self._prices[seen]))

    def leader(self) -> Curve:
        """The trial that will probably be the best."""
        return self._leader

    def of(self, curve: Curve) -> float:
        row = self._rows[curve.number]
        left = max(1, self.max_resource - (curve.last_step or 0))
        return self._per_second(self._mean[row], self._deviation[row], left * math.exp(self._prices[row]))

    def probability(self, curve: Curve) -> float:
        """That this trial will be better than the best one."""
        row = self._rows[curve.number]
        return _cdf((self._mean[row] - self._target) / self._deviation[row])

    def of_new(self, seed: int | None = None) -> tuple[float, Mapping[str, Any]]:
        """The best new configuration and what it is worth."""
        import numpy as np

        rng = np.random.default_rng(len(self.model.curves) if seed is None else seed)
        configs = candidates(self.model.curves, rng, self._leader)
        points = self.model.encode(configs)
        mean, deviation = self.model.final(points)
        seconds = self.max_resource * np.exp(self.model.log_price(points))
        worths = [self._per_second(*each) for each in zip(mean.tolist(), deviation.tolist(), seconds, strict=True)]
        best = int(np.argmax(worths))
        return worths[best], configs[best]

    def _per_second(self, mean: float, deviation: float, seconds: float) -> float:
        z = (mean - self._target) / deviation
        improvement = deviation * (z * _cdf(z) + math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
        return improvement / (seconds + self._least) ** _GAMMA


def random_configs(curves: Sequence[Curve], rng: "np.random.Generator", number: int) -> list[dict[str, Any]]:
    """Configurations anywhere in the space, each with the parameters of some trial."""
    branches: dict[frozenset[str], list[Curve]] = {}
    for index in rng.integers(len(curves), size=number):
        branches.setdefault(frozenset(curves[index].distributions), []).append(curves[index])
    found = []
    for templates in branches.values():
        found += _configs(templates[0], curves, rng, len(templates), near=False)
    return found


def candidates(curves: Sequence[Curve], rng: "np.random.Generator", leader: Curve) -> list[dict[str, Any]]:
    """Configurations to choose from: half of them anywhere, half around the leading one."""
    near = _configs(leader, curves, rng, _CANDIDATES // 2, near=True)
    return random_configs(curves, rng, _CANDIDATES // 2) + near


def _configs(
    template: Curve, curves: Sequence[Curve], rng: "np.random.Generator", number: int, *, near: bool
) -> list[dict[str, Any]]:
    """Configurations with the parameters of a trial, and with choices that trials with these parameters had.

    So they keep the conditions of the space, which are unknown here: what a choice brings with it stays.
    """
    from optuna.distributions import CategoricalDistribution

    columns: dict[str, list[Any]] = {}
    for name, distribution in template.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            alike = [c.params[name] for c in curves if c.distributions.keys() == template.distributions.keys()]
            drawn = [alike[index] for index in rng.integers(len(alike), size=number)]
            stays = rng.random(number) < (0.7 if near else 0.0)
            columns[name] = [template.params[name] if s else d for s, d in zip(stays, drawn, strict=True)]
        else:
            columns[name] = _sample(distribution, rng, number, template.params[name] if near else None)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _sample(distribution: Any, rng: "np.random.Generator", number: int, around: float | None) -> list[float | int]:
    """Values of a range, uniform on its scale or near one of them."""
    import numpy as np

    low, high = float(distribution.low), float(distribution.high)
    start, end = (math.log(low), math.log(high)) if distribution.log else (low, high)
    if around is None:
        values = rng.uniform(start, end, number)
    else:
        center = math.log(around) if distribution.log else float(around)
        values = np.clip(rng.normal(center, 0.15 * (end - start), number), start, end)
    values = np.exp(values) if distribution.log else values
    if distribution.step is not None:
        values = low + np.round((values - low) / distribution.step) * distribution.step
    values = np.clip(values, low, high)
    found: list[float | int] = (np.rint(values).astype(int) if isinstance(distribution.low, int) else values).tolist()
    return found


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
