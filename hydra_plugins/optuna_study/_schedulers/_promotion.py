"""Asynchronous successive halving by promotion (Li et al. 2020, arXiv 1810.05934)."""

import math
from collections.abc import Sequence

from . import START, Curve, Scheduler


class PromotionScheduler(Scheduler):
    """Pauses each trial at steps that grow by a constant factor, the rungs, and continues the best of each rung.

    A trial is promoted as soon as it is among the best 1 / `reduction_factor` of the trials that reached its rung. No
    trial waits for a rung to fill, so workers are never idle while trials may start. When no trial may start any more,
    the best paused trials continue until no paused one is better than a trial that went further.

    Args:
        min_resource: the first rung, in reports (epochs), at least 1; by default 30% of those of a full training.
        reduction_factor: the factor between two rungs, at least 2; 1 / `reduction_factor` of a rung's trials continue.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, min_resource: int | None = None, reduction_factor: int = 2) -> None:
        if (min_resource is not None and min_resource < 1) or reduction_factor < 2:
            raise ValueError(
                f"min_resource must be at least 1 and reduction_factor at least 2, got {min_resource} and "
                f"{reduction_factor}"
            )
        self.min_resource = min_resource
        self.reduction_factor = reduction_factor

    def should_pause(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        rung = curve.last_step
        if rung is None or not self._is_rung(rung, curve):
            return False
        return curve.number not in self._promotable(rung, curves)

    def should_prune(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        """As in successive halving without promotion: the best trial of a rung always continues."""
        rung = curve.last_step
        if rung is None or not self._is_rung(rung, curve):
            return False
        return curve.number not in self._promotable(rung, curves, at_least=1)

    def choose(self, curves: Sequence[Curve], may_start: bool) -> int | str | None:
        paused = [curve for curve in curves if curve.state == "paused"]
        for rung in sorted({curve.last_step or 0 for curve in paused}, reverse=True):
            best = set(self._promotable(rung, curves))
            for curve in _by_value([curve for curve in paused if curve.last_step == rung], rung):
                if curve.number in best:
                    return curve.number
        if may_start:
            return START
        return self._best_unfinished(paused, curves)

    def _is_rung(self, step: int, curve: Curve) -> bool:
        if curve.max_resource is not None and len(curve.values) >= curve.max_resource:
            return False  # it is complete
        rung = curve.first_decision(self.min_resource)
        while rung < step:
            rung *= self.reduction_factor
        return rung == step

    def _promotable(self, rung: int, curves: Sequence[Curve], at_least: int = 0) -> list[int]:
        """The numbers of the best trials that reached this rung."""
        reached = _by_value([curve for curve in curves if rung in curve.values and curve.state != "failed"], rung)
        return [curve.number for curve in reached[: max(at_least, len(reached) // self.reduction_factor)]]

    def _best_unfinished(self, paused: Sequence[Curve], curves: Sequence[Curve]) -> int | None:
        """The best paused trial of the highest rung at which it is better than all trials that went further."""
        for rung in sorted({curve.last_step or 0 for curve in paused}, reverse=True):
            best = next(iter(_by_value([curve for curve in paused if curve.last_step == rung], rung)), None)
            further = [c for c in curves if c.last_step != rung and rung in c.values and c.state != "failed"]
            if best is not None and best.values[rung] > max((c.values[rung] for c in further), default=-math.inf):
                return best.number
        return None


def _by_value(curves: Sequence[Curve], step: int) -> list[Curve]:
    """From the best value at this step to the worst; NaN comes last, of equal ones the earlier trial first."""

    def key(curve: Curve) -> tuple[float, int]:
        value = curve.values[step]
        return (math.inf if math.isnan(value) else -value), curve.number

    return sorted(curves, key=key)
