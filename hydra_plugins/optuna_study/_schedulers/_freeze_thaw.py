"""Continues the trial that promises the largest improvement per second, by a model of the learning curves."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import START, Curve, Scheduler

if TYPE_CHECKING:
    from ._curve_model import CurveModel

_DECISIONS = 0.2  # share of a full training between two decisions about a trial
_HOPELESS = 0.2  # probability of becoming the best below which a trial pauses
_WORTH = 0.02  # the same for a paused trial, below which it is not continued when nothing else may start
_NEW = 200  # random configurations that stand for what the sampler will suggest
_CURVES = 300  # trials that the model knows, at most, besides the running ones: more cost time and change little


class FreezeThawScheduler(Scheduler):
    """Pauses trials that will hardly become the best, and continues what promises most per second.

    A model of all learning curves so far predicts the final value of each trial, from its own reports and from those of
    similar configurations. A trial pauses when the probability that it becomes the best is below 20%. A free worker
    takes the paused trial with the largest expected improvement per remaining second, at the measured seconds per step,
    or starts a new trial, if the better quarter of random configurations promises more on average.

    Freeze-thaw Bayesian optimization is by Swersky et al. 2014 (arXiv 1406.3896).

    Args:
        min_resource: the number of reports (epochs) from which on a trial may pause, at least 1; by default 30% of
            those of a full training.
        n_startup_trials: nothing is predicted before so many trials reached that step, at least 2.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, min_resource: int | None = None, n_startup_trials: int = 4) -> None:
        if (min_resource is not None and min_resource < 1) or n_startup_trials < 2:
            raise ValueError(
                f"min_resource must be at least 1 and n_startup_trials at least 2, got {min_resource} and "
                f"{n_startup_trials}"
            )
        self.min_resource = min_resource
        self.n_startup_trials = n_startup_trials
        # Only to save time: the hyperparameters of the last model are used until there are many more reports.
        self._last: CurveModel | None = None

    def should_pause(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        step, first, length = curve.last_step, curve.first_decision(self.min_resource), curve.max_resource
        if length is None or step is None or step < first or len(curve.values) >= length:
            return False
        if self._is_starting(curves):
            return step == first
        if (step - first) % max(1, round(_DECISIONS * length)):
            return False
        return self._predict(curves, curve).probability(curve) < _HOPELESS

    def choose(self, curves: Sequence[Curve], may_start: bool) -> int | str | None:
        paused = [curve for curve in curves if curve.state == "paused"]
        if self._is_starting(curves):
            return START if may_start else min((curve.number for curve in paused), default=None)
        predictions = self._predict(curves) if paused else None
        paused = [curve for curve in paused if predictions and predictions.knows(curve)]
        if not paused or predictions is None:
            return START if may_start else None
        best = max(paused, key=predictions.per_second)
        if may_start:
            return START if predictions.per_second_of_new() >= predictions.per_second(best) else best.number
        leader = predictions.leader()
        if leader.state == "paused":
            return leader.number
        return best.number if predictions.probability(best) > _WORTH else None

    def _is_starting(self, curves: Sequence[Curve]) -> bool:
        """Whether too few trials went far enough for predictions."""
        far = [
            curve
            for curve in curves
            if (step := curve.last_step) is not None
            and step >= curve.first_decision(self.min_resource)
            and math.isfinite(curve.values[step])
            and curve.state != "failed"
        ]
        return len(far) < self.n_startup_trials

    def _predict(self, curves: Sequence[Curve], asking: Curve | None = None) -> "_Predictions":
        predictions = _Predictions(curves, asking, self._last)
        self._last = predictions.model
        return predictions


class _Predictions:
    """Expected improvement over the best trial, and what it costs.

    Args:
        curves: all trials of the study.
        asking: the running trial that asks; other running ones are expected to finish.
        fitted: an earlier model.
    """

    def __init__(self, curves: Sequence[Curve], asking: Curve | None, fitted: "CurveModel | None") -> None:
        from ._curve_model import CurveModel, measured_price

        alive = _informative([curve for curve in curves if curve.state != "failed"], asking)
        self._length = max((curve.max_resource or curve.last_step or 1 for curve in alive), default=1)
        self.model = CurveModel(alive, self._length, fitted)
        self._rows = {curve.number: row for row, curve in enumerate(self.model.curves)}
        self.model.expect([c.number for c in alive if c.state in {"running", "waiting"} and c is not asking])
        self._mean, self._deviation = self.model.final(self.model.points)
        seen = [row for row, curve in enumerate(self.model.curves) if curve.values]
        self._best = max(seen, key=lambda row: float(self._mean[row]))
        self._prices = self.model.prices(self.model.points)
        for row, curve in enumerate(self.model.curves):
            self._prices[row] = measured_price(curve) or self._prices[row]
        # The number of trials is limited, too, so a cheap one costs more than its seconds.
        self._least = 0.1 * self._length * float(max(self._prices[seen]))

    def knows(self, curve: Curve) -> bool:
        """Whether this trial is among those of the model."""
        return curve.number in self._rows

    def leader(self) -> Curve:
        """The trial that will probably be the best."""
        return self.model.curves[self._best]

    def probability(self, curve: Curve) -> float:
        """That this trial will be better than what the leader is expected to reach."""
        row = self._rows[curve.number]
        return _cdf(float((self._mean[row] - self._mean[self._best]) / self._deviation[row]))

    def per_second(self, curve: Curve) -> float:
        """Expected improvement of a trial per second until its end."""
        row = self._rows[curve.number]
        left = max(1, self._length - (curve.last_step or 0))
        gain = self._improvement(float(self._mean[row]), float(self._deviation[row]))
        return gain / (left * float(self._prices[row]) + self._least)

    def per_second_of_new(self) -> float:
        """The same for a new trial: the mean of the better quarter of random configurations."""
        import numpy as np

        points = self.model.random_points(np.random.default_rng(len(self.model.curves)), _NEW)
        mean, deviation = self.model.final(points)
        seconds = self._length * self.model.prices(points) + self._least
        gains = [self._improvement(*each) for each in zip(mean.tolist(), deviation.tolist(), strict=True)]
        return float(np.sort(np.array(gains) / seconds)[-_NEW // 4 :].mean())

    def _improvement(self, mean: float, deviation: float) -> float:
        z = (mean - float(self._mean[self._best])) / deviation
        return deviation * (z * _cdf(z) + math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _informative(curves: Sequence[Curve], asking: Curve | None) -> list[Curve]:
    """All running trials, the best of the others, and of the rest a part from the best to the worst."""
    running = [curve for curve in curves if curve is asking or curve.state in {"running", "waiting"}]
    numbers = {curve.number for curve in running}
    others = [curve for curve in curves if curve.number not in numbers]
    if len(others) <= _CURVES:
        return list(curves)

    def last_value(curve: Curve) -> float:
        value = curve.values[curve.last_step] if curve.last_step is not None else -math.inf
        return value if math.isfinite(value) else -math.inf

    others.sort(key=last_value, reverse=True)
    best, rest = others[: _CURVES * 2 // 3], others[_CURVES * 2 // 3 :]
    stride = -(-len(rest) // (_CURVES // 3))
    return sorted([*running, *best, *rest[::stride]], key=lambda curve: curve.number)


def _cdf(z: float) -> float:
    """Of the standard normal distribution."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
