"""Tally: the counts of a study and the places of its trials in the budget."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from .._budget import (
    COMPLETION,
    Budget,
    Counts,
    attempt_of,
    best_trial,
    completion_order,
    count_trials,
    feasible_trials,
    first_number,
    is_interrupted,
    is_paused,
    was_paused,
)
from .._optuna import id_of
from ._follower import Follower


class Tally(Follower):
    """The results of `_budget`'s functions of the same names, after each update.

    Each open trial uses budget. So the place of a trial in the budget is its number, less the lower numbers that use
    none: those of attempts that another one continues, and those of failed trials.

    Args:
        launch_id: launch whose failed trials count as `failed`; those of others are `failed_before`.
        maximize: direction of the objective, or None for several objectives, which have no best trial.
    """

    def __init__(self, launch_id: str | None = None, maximize: bool | None = False) -> None:
        super().__init__()
        self._launch_id = launch_id
        self._maximize = maximize
        self._forget()

    def _forget(self) -> None:
        self.last_id = -1
        """The storage's id of the last trial."""
        self._ended = Counts()
        self._completion = 0
        # Sorted numbers: of continued attempts, of failed trials, of attempts that are not the first ones, and those
        # that no trial of the read had.
        self._handed_on: list[int] = []
        self._failed: list[int] = []
        self._retries: list[int] = []
        self._missing: list[int] = []
        # Sorted: the order of all ends, and that of the first trial with the best value.
        self._finished: list[tuple[int, int]] = []
        self.best: FrozenTrial | None = None
        self._best_reached = (0, 0)

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        super().update(trials)
        self.last_id = id_of(trials[-1]) if trials else -1
        if not self._is_valid:
            self._missing = sorted({*range(trials[-1].number)} - {trial.number for trial in trials})

    def _see_new(self, trial: FrozenTrial) -> None:
        if attempt_of(trial):
            self._retries.append(trial.number)

    def _see(self, trial: FrozenTrial) -> None:
        self._completion = max(self._completion, int(trial.system_attrs.get(COMPLETION, 0)))
        if trial.number in self.open:
            return
        if was_paused(trial) and trial.number in self._continued:
            self._ended = self._ended + Counts(interrupted=1)
            insort(self._handed_on, trial.number)
            return
        self._ended = self._ended + count_trials([trial], self._launch_id)
        if is_interrupted(trial):
            insort(self._handed_on, trial.number)
        elif trial.state == TrialState.FAIL:
            insort(self._failed, trial.number)
        else:
            order = completion_order(trial)
            insort(self._finished, order)
            if self._maximize is not None and feasible_trials([trial]):
                self._compare(trial, order)

    def _compare(self, trial: FrozenTrial, order: tuple[int, int]) -> None:
        before = self.best
        self.best = best_trial([trial] if before is None else [before, trial], bool(self._maximize))
        if before is None or self.best is None or self.best.values[0] != before.values[0]:
            self._best_reached = order
        elif trial.values[0] == before.values[0]:
            self._best_reached = min(self._best_reached, order)

    # ---- results

    def counts(self) -> Counts:
        return self._ended + count_trials(self.open.values(), self._launch_id)

    def next_completion(self) -> int:
        return self._completion + 1

    def budget_used(self, budget: Budget) -> int:
        return self._place(self._known + len(self._missing), budget)

    def startable(self, budget: Budget) -> list[FrozenTrial]:
        return [
            trial
            for trial in self.open.values()
            if trial.state == TrialState.WAITING and self._place(trial.number, budget) < budget.most_trials
        ]

    def _place(self, number: int, budget: Budget) -> int:
        """How many trials with lower numbers use budget."""
        without = (self._handed_on, self._missing, *([] if budget.failures_use_budget else [self._failed]))
        return number - sum(bisect_left(numbers, number) for numbers in without)

    def number_without_retries(self, trial: FrozenTrial) -> int:
        first = first_number(trial)
        return first - bisect_left(self._retries, first)

    def finished_since_best(self) -> int:
        if self.best is None:
            return 0
        return len(self._finished) - bisect_right(self._finished, self._best_reached)

    def running(self) -> list[FrozenTrial]:
        return [trial for trial in self.open.values() if trial.state == TrialState.RUNNING]

    def paused(self) -> list[FrozenTrial]:
        return [trial for trial in self.open.values() if is_paused(trial)]

    def orphans(self) -> list[FrozenTrial]:
        """Interrupted attempts that no other attempt continues yet."""
        return [trial for trial in self.open.values() if is_interrupted(trial)]
