"""`hydra.sweeper.budget`: what a study has spent, and what it may still start or continue.

A study that can pause its trials spends its budget step by step. Its leaders are the unfinished trials that are better
than every trial that went further, compared at the step that they have reached; what they need to their full length is
reserved. Any other trial starts or takes another step only if all of its own training fits beside that and beside the
next step of all trials in flight. So the leaders are trained to their full length, and the budget is exceeded by no
more than what the steps in flight cost beyond what was expected of them; in epochs, by nothing.

Without pauses, a trial starts only if it and all trials in flight are expected to end within the budget.
"""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

from .._trial import StudyError
from . import Curve

_SECONDS: Final = {"s": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600}
_UNITS: Final = {**_SECONDS, "hours": 3600, "epoch": None, "epochs": None}
# Seconds are sums of measured numbers; a budget of exactly three trials is enough for three.
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Limit:
    """A budget.

    Args:
        amount: in seconds of training or in epochs, over all workers; more than 0.
        in_epochs: whether it is in epochs.
        text: as the user wrote it.
    """

    amount: float
    in_epochs: bool
    text: str

    @classmethod
    def parse(cls, value: Any) -> "Limit | None":
        """A number with its unit: `3600s`, `90min`, `2h`, `500 epochs`; None stays None.

        Raises:
            StudyError: it is something else.
        """
        if value is None:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]+)", str(value).strip())
        unit = found[2] if found else ""
        if found is None or unit not in _UNITS or not float(found[1]) > 0:
            raise StudyError(
                "hydra.sweeper.budget must be a positive number with its unit, such as 3600s, 90min, 2h or "
                f"'500 epochs', got {value!r}"
            )
        factor = _UNITS[unit]
        if factor is None and not float(found[1]).is_integer():
            raise StudyError(f"hydra.sweeper.budget must be a whole number of epochs, got {value!r}")
        return cls(float(found[1]) * (factor or 1), factor is None, str(value).strip())

    def amount_text(self, amount: float) -> str:
        return f"{amount:,.0f} {'epochs' if self.in_epochs else 's'}"


class Ledger:
    """What the trials of a study have cost so far, and which of them may cost more.

    Args:
        limit: the budget.
        curves: all trials of the study.
        in_flight: numbers of the trials that run, or that were interrupted and run again soon.
        can_pause: whether the sweep has a scheduler.
    """

    def __init__(self, limit: Limit, curves: Sequence[Curve], in_flight: Collection[int], *, can_pause: bool) -> None:
        self._limit = limit
        self._curves = {curve.number: curve for curve in curves}
        self.spent = sum(_spent(curve, limit) for curve in curves)
        complete = [len(curve.values) for curve in curves if curve.state == "complete"]
        declared = [curve.max_resource for curve in curves if curve.max_resource is not None]
        # Of a trial that has not said it; None if nothing is known yet.
        self._usual_length = max((*declared, *complete), default=None)
        steps = [_spent(curve, limit) / len(curve.values) for curve in curves if _spent(curve, limit)]
        self._usual_step = 1.0 if limit.in_epochs else mean(steps) if steps else 0.0
        # The first step of a trial shows its price; until then, it may be the dearest one.
        first_steps = [curve.seconds[min(curve.seconds)] for curve in curves if curve.seconds]
        self._first_step = 1.0 if limit.in_epochs else max(first_steps, default=0.0)
        # What each trial in flight and each leader will still cost.
        flying = [curve for curve in curves if curve.number in in_flight]
        self._claims = {curve.number: self._step(curve) if can_pause else self._rest(curve) for curve in flying}
        self._leaders = set[int]()
        for curve in _undominated(curves) if can_pause else ():
            rest = self._rest(curve)
            if self._fits(rest, without=curve.number):
                self._leaders.add(curve.number)
                self._claims[curve.number] = rest

    def knows_length(self, number: int) -> bool:
        """Whether it is known how many steps the trial has."""
        return (self._curves[number].max_resource or self._usual_length) is not None

    def may_start(self) -> bool:
        """Whether another trial may start."""
        return self._fits(max(self._usual_step * (self._usual_length or 1), self._first_step))

    def may_continue(self, number: int) -> bool:
        """Whether a trial may take another step."""
        return number in self._leaders or self._fits(self._rest(self._curves[number]), without=number)

    def _step(self, curve: Curve) -> float:
        """The price of the trial's next step, from its own steps so far."""
        if curve.max_resource is not None and len(curve.values) >= curve.max_resource:
            return 0.0  # nothing is left but what follows the training
        if self._limit.in_epochs:
            return 1.0
        return _spent(curve, self._limit) / len(curve.seconds) if curve.seconds else self._first_step

    def _rest(self, curve: Curve) -> float:
        """What the trial needs from here to its full length; one step if that is not known."""
        length = curve.max_resource or self._usual_length or len(curve.values) + 1
        price = self._step(curve) if curve.values else self._usual_step
        return price * max(length - len(curve.values), 0)

    def _fits(self, price: float, without: int | None = None) -> bool:
        claimed = sum(claim for number, claim in self._claims.items() if number != without)
        return self.spent + claimed + price <= self._limit.amount * (1 + _TOLERANCE)


def _spent(curve: Curve, limit: Limit) -> float:
    if limit.in_epochs:
        return float(len(curve.values))
    return max(curve.seconds.values(), default=0.0)


def _undominated(curves: Sequence[Curve]) -> list[Curve]:
    """The unfinished trials that are better than every one that went further; the most trained one comes first."""
    found: list[Curve] = []
    reached = [curve for curve in curves if curve.values and curve.state != "failed"]
    unfinished = [curve for curve in reached if curve.state in ("running", "paused", "waiting")]
    for curve in sorted(unfinished, key=lambda curve: (-len(curve.values), curve.number)):
        length, value = len(curve.values), _best(curve, len(curve.values))
        others = (other for other in reached if other.number != curve.number and len(other.values) >= length)
        # Of equal ones, the one that began first.
        if value > -math.inf and all(
            (value, -curve.number) > (_best(other, length), -other.number) for other in others
        ):
            found.append(curve)
    return found


def _best(curve: Curve, length: int) -> float:
    """The best of the first values."""
    values = (curve.values[step] for step in sorted(curve.values)[:length])
    return max((value for value in values if not math.isnan(value)), default=-math.inf)
