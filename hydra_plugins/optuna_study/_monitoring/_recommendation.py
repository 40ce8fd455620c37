"""The trial that a study recommends: one whose neighbours did well, too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._schedulers import Curve

# So many complete trials are needed; fewer say nothing about their neighbours.
LEAST = 8
# The model sees at most so many trials, the best complete ones among them: its cost grows with the cube of the number.
_BEST, _OTHERS = 150, 150


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
    return model.curves[candidates[int((mean - deviation).argmax())]].number


def _summaries(curve: Curve) -> tuple[float, float]:
    """The best and the last report."""
    return max(curve.values.values()), curve.values[max(curve.values)]
