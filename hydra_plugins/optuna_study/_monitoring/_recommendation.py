"""The trial that a study recommends, one whose neighbours did well, too, and what further trials may gain."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .._schedulers import Curve

if TYPE_CHECKING:
    from .._schedulers._curve_model import CurveModel

# So many complete trials are needed; fewer say nothing about their neighbours.
LEAST = 8
# The model sees at most so many trials, the best complete ones among them: its cost grows with the cube of the number.
_BEST, _OTHERS = 150, 150
_RANDOM, _DRAWS = 200, 200  # random configurations and random functions for the expected gain


def recommend(curves: Sequence[Curve], finals: Mapping[int, float]) -> int | None:
    """The number of the complete trial that can be relied on most.

    A value is a configuration's quality plus luck: of many trials, the one with the best value is often a lucky one. A
    Gaussian process over configurations and learning curves tells both apart, because it knows how far trials with
    similar configurations came. Recommended is the trial with the highest lower bound: the mean of its quality minus
    one standard deviation. Trials that paused, or were pruned, count with their reports if reports are on the scale of
    the final values: if the final value of each complete trial is its best or its last report.

    Args:
        curves: all trials; larger is better.
        finals: final value by number, of the complete trials that may be recommended; larger is better.

    Returns:
        The number of a trial, or None with fewer than 8 finite final values of trials with parameters, or if all of
        these values are the same.
    """
    fitted = _fitted(curves, finals)
    return None if fitted is None else fitted.model.curves[fitted.chosen].number


def expected_gain(curves: Sequence[Curve], finals: Mapping[int, float]) -> float | None:
    """How much better than the recommended trial the best configuration of the space is expected to be.

    That is the mean over random functions of the Gaussian process: the best value of many random configurations and of
    all trials, minus the value of the recommended trial. It is what a search without an end would still gain.

    Args:
        curves: as in `recommend`.
        finals: as in `recommend`.

    Returns:
        The gain in the unit of the values, 0 or more; None as in `recommend`.
    """
    fitted = _fitted(curves, finals)
    if fitted is None:
        return None
    import numpy as np

    model, rng = fitted.model, np.random.default_rng(len(curves))
    points = np.concatenate([model.points, model.random_points(rng, _RANDOM)])
    values = model.draws(points, rng, _DRAWS)
    return float((values.max(axis=1) - values[:, fitted.chosen]).mean())


class _Fitted(NamedTuple):
    """A model, and the index of the recommended one of its curves."""

    model: "CurveModel"
    chosen: int


def _fitted(curves: Sequence[Curve], finals: Mapping[int, float]) -> _Fitted | None:
    known = {number: value for number, value in finals.items() if math.isfinite(value)}
    complete = [curve for curve in curves if curve.number in known and curve.params]
    if len(complete) < LEAST or len({known[curve.number] for curve in complete}) == 1:
        return None
    steps = max([1, *(curve.max_resource or curve.last_step or 1 for curve in complete)])
    comparable = all(known[curve.number] in _summaries(curve) for curve in complete if curve.values)
    others = [curve for curve in curves if comparable and curve.number not in finals and curve.values]
    ended = [replace(curve, values={steps: known[curve.number]}) for curve in complete]
    ended.sort(key=lambda curve: (-curve.values[steps], curve.number))
    others += ended[_BEST:]
    from .._schedulers._curve_model import CurveModel

    model = CurveModel([*ended[:_BEST], *others[:: max(1, math.ceil(len(others) / _OTHERS))]], steps)
    candidates = [i for i, curve in enumerate(model.curves) if curve.number in known and curve.params]
    mean, deviation = model.final(model.points[candidates])
    return _Fitted(model, candidates[int((mean - deviation).argmax())])


def _summaries(curve: Curve) -> tuple[float, float]:
    """The best and the last report."""
    return max(curve.values.values()), curve.values[max(curve.values)]
