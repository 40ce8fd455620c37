"""Schedulers: they pause trials, and decide which paused trial continues or whether a new one starts.

Hydra imports this package whenever it looks for plugins, so nothing here imports Optuna.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

START: Final = "start"
"""The choice of a scheduler that a new trial starts."""


@dataclass(frozen=True)
class Curve:
    """A trial as schedulers see it: its reports so far.

    Steps are numbers of reports: 1 is the first report of a trial, whatever step its task gives it.

    Args:
        number: number of the trial's first attempt.
        state: complete, pruned, failed, running, paused or waiting.
        values: step to reported value; larger is better, whatever the direction of the study.
        params: parameter to value.
        seconds: step to seconds of training up to that step, over all attempts.
        distributions: parameter to Optuna's distribution.
        max_resource: the number of reports of a trial that runs to its end; None if its task has not said it.
    """

    number: int
    state: str
    values: Mapping[int, float]
    params: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    distributions: Mapping[str, Any] = field(default_factory=dict)
    max_resource: int | None = None

    @property
    def last_step(self) -> int | None:
        return max(self.values, default=None)

    def first_decision(self, min_resource: int | None) -> int:
        """The first step after which a trial may pause: `min_resource`, or without one 30% of its steps.

        Replays against recorded learning curves (benchmarks.search) choose this share: before it, the order of the
        values has little to do with the order at the end.
        """
        if min_resource is not None:
            return min_resource
        return max(1, round(0.3 * self.max_resource)) if self.max_resource is not None else 1


class Scheduler(ABC):
    """Decides which trial is worth the next seconds. A subclass is chosen by `hydra.sweeper.scheduler._target_`.

    All workers ask schedulers of their own about the same stored trials, so a scheduler keeps no state that its
    decisions depend on.
    """

    @abstractmethod
    def should_pause(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        """Whether a running trial pauses after its last report.

        Args:
            curve: the trial that asks.
            curves: all trials of the study, this one among them.
        """

    def should_prune(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        """Whether a running trial whose task cannot pause ends here; by default, where it would pause."""
        return self.should_pause(curve, curves)

    @abstractmethod
    def choose(self, curves: Sequence[Curve], may_start: bool) -> int | str | None:
        """What a free worker runs next.

        Args:
            curves: all trials of the study.
            may_start: whether the budget allows another trial to start.

        Returns:
            The number of a paused trial, or `START`, or None if no paused trial is worth another second. When nothing
            runs any more, None ends the study, and its paused trials become pruned ones.
        """
