"""A Gaussian process over configurations and learning curves, and the prices of their steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from . import Curve

Array = NDArray[np.float64]

_FIT_ON = 60  # observations that the hyperparameters are fitted to: more cost time and change little
_PER_CURVE = 3  # observations per curve, the last one among them
_OBSERVATIONS = 300  # fewer per curve, down to the last one, where there would be more than these: they cost n^3
_JITTER = 1e-6
_MARGIN = 1e-3  # added to shares and their complements, so that 0 and 1 have log odds
_FAR = 10.0  # spreads; how bad a failed training is says nothing about the others


class Encoding:
    """Configurations as vectors: each parameter in 0..1, on a log scale where it has one.

    A choice among words takes one coordinate per word. A parameter that a configuration does not have is in the middle
    of its range, and a coordinate tells that it is absent.

    Args:
        distributions: parameter to distribution, of all parameters that any configuration has.
        optional: names of the parameters that some configurations do not have.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], optional: frozenset[str]) -> None:
        self.distributions = dict(sorted(distributions.items()))
        self.optional = optional

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> "Encoding":
        """For all configurations of a study."""
        distributions: dict[str, BaseDistribution] = {}
        for curve in curves:
            distributions |= curve.distributions
        optional = {name for name in distributions if any(name not in curve.distributions for curve in curves)}
        return cls(distributions, frozenset(optional))

    def __call__(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        """Shape (number of configurations, number of coordinates)."""
        columns: list[Array] = []
        for name, distribution in self.distributions.items():
            columns += _coordinates(distribution, [config.get(name) for config in configs])
            if name in self.optional:
                columns.append(np.array([float(name in config) for config in configs]))
        return np.stack(columns, axis=1) if columns else np.zeros((len(configs), 0))

    def with_random_ranges(self, points: Array, rng: np.random.Generator) -> Array:
        """The points with other values of all parameters that are numbers of a range."""
        changed, column = points.copy(), 0
        for name, distribution in self.distributions.items():
            width = len(_coordinates(distribution, [None]))
            if not isinstance(distribution, CategoricalDistribution):
                present = points[:, column + width] > 0 if name in self.optional else np.ones(len(points), dtype=bool)
                changed[present, column] = rng.random(int(present.sum()))
            column += width + (name in self.optional)
        return changed


def _coordinates(distribution: BaseDistribution, values: Sequence[Any]) -> list[Array]:
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices):
            ranks = sorted(choices)  # type: ignore[type-var]
            shares = {value: rank / max(1, len(ranks) - 1) for rank, value in enumerate(ranks)}
            return [np.array([shares.get(value, 0.5) for value in values])]
        return [np.array([math.sqrt(0.5) * (value == choice) for value in values]) for choice in choices]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    found = np.array([math.nan if value is None else value for value in values], dtype=float)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        found, low, high = np.log(found), math.log(low), math.log(high)
    unit = np.clip((found - low) / (high - low), 0.0, 1.0) if high > low else np.full(len(values), 0.5)
    return [np.where(np.isnan(unit), 0.5, unit)]


@dataclass(frozen=True)
class _Hyperparameters:
    """Of the process; values are in units of the spread of the observations.

    Args:
        lengths: length scale per coordinate.
        linear: standard deviation of the slope over a whole range.
        scale: standard deviation of the final values around the linear trend.
        early: standard deviation of the distance to the final value before the first step.
        decay: share of the training in which this distance falls to 1/e.
        own: share of this distance that a training has for itself; the others have the rest in common.
        noise: standard deviation of a report around its curve.
    """

    lengths: tuple[float, ...]
    linear: float = 1.5
    scale: float = 0.7
    early: float = 6.0
    decay: float = 0.2
    own: float = 0.6
    noise: float = 0.4


_GRIDS: Mapping[str, tuple[float, ...]] = {
    "lengths": (0.3, 0.6, 1.0, 2.0, 5.0),
    "linear": (0.5, 1.5, 3.0),
    "scale": (0.3, 0.7, 1.5),
    "early": (2.0, 6.0, 12.0),
    "decay": (0.1, 0.2, 0.4),
    "own": (0.3, 0.6, 1.0),
    "noise": (0.25, 0.4, 0.8),
}


class CurveModel:
    """What configurations will reach, from the learning curves so far.

    A value is the final value of its configuration minus a distance to it that shrinks as the training proceeds, plus
    noise. The final values are a Gaussian process over the configurations, with a linear trend. The distance has a part
    that all trainings share, one that similar configurations share and one of each training; all decay exponentially.
    Freeze-thaw Bayesian optimization (Swersky et al. 2014, arXiv 1406.3896) models curves in the same spirit.

    Args:
        curves: with at least one value in all.
        max_resource: last step of a full training.
        fitted: a model of fewer observations, whose hyperparameters are used while they are not much fewer.
    """

    def __init__(self, curves: Sequence[Curve], max_resource: int, fitted: "CurveModel | None" = None) -> None:
        self.max_resource = max_resource
        self.curves = [curve for curve in curves if curve.params or curve.values]
        self.encode = Encoding.of(self.curves)
        self.points = self.encode([curve.params for curve in self.curves])
        rows, steps, values = _observations(self.curves)
        steps_seen = [curve.last_step or 0 for curve in self.curves]
        # Early values say little about the range of the final ones.
        far = [value for step, value in zip(steps, values, strict=True) if step >= max(steps_seen) / 2]
        transform, self._to_value = _transform(values)
        finals = transform(np.array(far))
        low, middle, high = np.quantile(finals, [0.1, 0.5, 0.9])
        self._center, self._spread = float(middle), max(float(high - low) / 2.56, 1e-9)  # of a normal distribution
        self._rows, self._shares = rows, np.minimum(1.0, steps / max_resource)
        self._values = np.clip((transform(values) - self._center) / self._spread, -_FAR, _FAR)
        if fitted is not None and fitted.points.shape[1] != self.points.shape[1]:
            fitted = None
        self._hyper: _Hyperparameters = fitted._hyper if fitted else _Hyperparameters((1.0,) * self.points.shape[1])
        self._fitted_to: int = fitted._fitted_to if fitted else 0
        if len(rows) >= 1.2 * self._fitted_to + 1:
            self._hyper, self._fitted_to = self._fit(self._hyper), len(rows)
        self._condition()

    # ---- predictions

    def final(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the final value at each point, in the units of the spread."""
        cross = _kernel(points, self.points[self._rows], self._hyper)
        mean = self._mean + cross @ self._weights
        variance = self._prior_variance(points) - ((cross @ self._inverse) * cross).sum(axis=1)
        return mean, np.sqrt(np.maximum(variance, 1e-8))

    def draws(self, points: Array, rng: np.random.Generator, number: int) -> Array:
        """Random functions of the process: the final value at each point, in the unit of the reports.

        Returns:
            Values of shape (number, points); larger is better.
        """
        cross = _kernel(points, self.points[self._rows], self._hyper)
        mean = self._mean + cross @ self._weights
        covariance = _kernel(points, points, self._hyper) - cross @ self._inverse @ cross.T
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)  # rounding may leave it slightly indefinite
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        found = mean + rng.standard_normal((number, len(points))) @ root.T
        return self._to_value(self._center + self._spread * found)

    def expect(self, numbers: Sequence[int]) -> None:
        """Take into account that these trials will finish: their final values count as known, at their means."""
        pending = [i for i, curve in enumerate(self.curves) if curve.number in set(numbers)]
        if not pending:
            return
        mean, _ = self.final(self.points[pending])
        self._rows = np.concatenate([self._rows, np.array(pending, dtype=np.int64)])
        self._shares = np.concatenate([self._shares, np.ones(len(pending))])
        self._values = np.concatenate([self._values, mean])
        self._condition()

    def prices(self, points: Array) -> Array:
        """Seconds per step at each point; ones if nothing was measured.

        Prices beyond what was seen are guesses: at most twice the highest, at least half of the lowest.
        """
        measured = [(row, measured_price(curve)) for row, curve in enumerate(self.curves)]
        known = [(row, math.log(price)) for row, price in measured if price is not None]
        if not known:
            return np.ones(len(points))
        rows, logs = [row for row, _ in known], np.array([price for _, price in known])
        hyper = _Hyperparameters((0.5,) * self.points.shape[1], linear=3.0, scale=0.5)
        kernel = _kernel(self.points[rows], self.points[rows], hyper) + 0.01 * np.eye(len(rows))
        center = float(np.mean(logs))
        found = center + _kernel(points, self.points[rows], hyper) @ np.linalg.solve(kernel, logs - center)
        return np.asarray(np.exp(np.clip(found, logs.min() - math.log(2), logs.max() + math.log(2))))

    def random_points(self, rng: np.random.Generator, number: int) -> Array:
        """Points anywhere in the space, each with the choices of some configuration, and without what it has not."""
        return self.encode.with_random_ranges(self.points[rng.integers(len(self.points), size=number)], rng)

    # ---- the process

    def _condition(self) -> None:
        points = self.points[self._rows]
        kernel = self._covariance(points, self._rows, self._shares, self._hyper)
        self._inverse = np.asarray(np.linalg.inv(kernel), dtype=np.float64)
        self._mean = _trend(self._inverse, self._values)
        self._weights = self._inverse @ (self._values - self._mean)

    def _prior_variance(self, points: Array) -> Array:
        centered = points - 0.5
        return np.asarray(self._hyper.scale**2 + self._hyper.linear**2 * (centered**2).sum(axis=1))

    @staticmethod
    def _covariance(points: Array, rows: NDArray[np.int64], shares: Array, hyper: _Hyperparameters) -> Array:
        near = _matern(points, points, hyper.lengths)
        centered = points - 0.5
        finals = hyper.scale**2 * near + hyper.linear**2 * centered @ centered.T
        distance = hyper.early * np.exp(-shares / hyper.decay)
        distance[shares >= 1.0] = 0.0
        same = (rows[:, None] == rows[None, :]).astype(float)
        logs = np.log(np.maximum(shares, 1e-3))
        along = np.exp(-np.abs(logs[:, None] - logs[None, :]))
        # All trainings share a part, similar ones another, and each has one for itself.
        common = 1.0 + hyper.own**2 * (near + same)
        shared = common * along * distance[:, None] * distance[None, :]
        kernel = finals + shared
        kernel[np.diag_indices_from(kernel)] += hyper.noise**2 + _JITTER
        return np.asarray(kernel)

    def _fit(self, start: _Hyperparameters) -> _Hyperparameters:
        """The most probable hyperparameters of a grid, by coordinate ascent."""
        rows, shares, values = self._rows, self._shares, self._values
        if len(rows) > _FIT_ON:
            chosen = np.linspace(0, len(rows) - 1, _FIT_ON).astype(np.int64)
            rows, shares, values = rows[chosen], shares[chosen], values[chosen]
        points = self.points[rows]
        usual = _Hyperparameters((1.0,) * points.shape[1])

        def log_probability(hyper: _Hyperparameters) -> float:
            kernel = self._covariance(points, rows, shares, hyper)
            inverse = np.asarray(np.linalg.inv(kernel), dtype=np.float64)
            around = values - _trend(inverse, values)
            likelihood = -0.5 * float(around @ inverse @ around) - 0.5 * float(np.linalg.slogdet(kernel)[1])
            prior = sum(math.log(a / b) ** 2 for a, b in zip(hyper.lengths, usual.lengths, strict=True)) / 2
            prior += sum(math.log(getattr(hyper, n) / getattr(usual, n)) ** 2 for n in _GRIDS if n != "lengths") / 2
            return likelihood - prior

        best, found = log_probability(start), start
        for _ in range(2):
            before = found
            for name, grid in _GRIDS.items():
                for position in range(len(found.lengths)) if name == "lengths" else (0,):
                    for value in grid:
                        lengths = list(found.lengths)
                        lengths[position] = value
                        changed: dict[str, Any] = {name: tuple(lengths) if name == "lengths" else value}
                        tried = replace(found, **changed)
                        if tried != found and (score := log_probability(tried)) > best:
                            best, found = score, tried
            if found == before:
                break
        return found


def _trend(inverse: Array, values: Array) -> float:
    """The mean of final values, with a prior around the median of what was seen."""
    sums = inverse.sum(axis=0)
    return float(sums @ values / (sums.sum() + 1.0))


def _matern(left: Array, right: Array, lengths: Sequence[float]) -> Array:
    """Matérn kernel with smoothness 5/2."""
    a, b = left / np.array(lengths), right / np.array(lengths)
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    distance = np.sqrt(5 * np.maximum(squared, 0.0))
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def _kernel(left: Array, right: Array, hyper: _Hyperparameters) -> Array:
    linear = (left - 0.5) @ (right - 0.5).T
    return np.asarray(hyper.scale**2 * _matern(left, right, hyper.lengths) + hyper.linear**2 * linear)


def _finite(curve: Curve) -> bool:
    return bool(curve.values) and math.isfinite(curve.values[max(curve.values)])


def _observations(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], Array, Array]:
    """Rows of the curves, steps and values that the model sees: the last of each curve, and a few before it."""
    rows: list[int] = []
    steps: list[int] = []
    values: list[float] = []
    per_curve = max(1, min(_PER_CURVE, _OBSERVATIONS // max(1, len(curves))))
    for row, curve in enumerate(curves):
        finite = sorted(step for step, value in curve.values.items() if math.isfinite(value))
        if not finite:
            continue
        chosen = {finite[round(i)] for i in np.linspace(len(finite) - 1, 0, per_curve)}  # from the last one
        for step in sorted(chosen):
            rows.append(row)
            steps.append(step)
            values.append(curve.values[step])
    return np.array(rows, dtype=np.int64), np.array(steps, dtype=float), np.array(values)


def _transform(values: Array) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The scale on which differences are alike, and the way back.

    That is log odds of accuracies, logarithms of losses, which come with the opposite sign, else the values.
    """
    if ((values >= 0) & (values <= 1)).all():
        return _log_odds, _share_of_log_odds
    if (values < 0).all():
        return lambda given: np.asarray(-np.log(-given)), lambda scaled: np.asarray(-np.exp(-scaled))
    return np.asarray, np.asarray


def _log_odds(shares: Array) -> Array:
    return np.asarray(np.log((shares + _MARGIN) / (1 - shares + _MARGIN)))


def _share_of_log_odds(scaled: Array) -> Array:
    odds = np.exp(np.clip(scaled, -_FAR, _FAR))
    return np.asarray(np.clip((odds * (1 + _MARGIN) - _MARGIN) / (1 + odds), 0.0, 1.0))


def measured_price(curve: Curve) -> float | None:
    """Seconds per step of a curve; None if they are not known."""
    if not curve.seconds:
        return None
    last = max(curve.seconds)
    seconds = curve.seconds[last] / max(1, last)
    return seconds if seconds > 0 else None
