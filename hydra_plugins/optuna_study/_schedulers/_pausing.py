"""The paused trials of a study: how a trial pauses, continues, and ends if nothing continues it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from .._budget import (
    ALIVE,
    COMPLETION,
    MAX_RESOURCE,
    OWNER,
    PAUSED,
    attempt_of,
    continued_attempts,
    first_number,
    is_interrupted,
    is_paused,
    reports_of,
    seconds_of,
    state_name,
)
from .._history._follower import Follower
from .._monitoring._lines import print_line
from .._optuna import id_of
from .._trial import StudyError
from . import START, Curve, Scheduler
from ._spending import Ledger, Limit

if TYPE_CHECKING:
    from .._queue import TrialQueue


def build_scheduler(config: Mapping[str, Any]) -> Scheduler | None:
    """The scheduler of `hydra.sweeper.scheduler`, or None without one.

    Raises:
        StudyError: it cannot be built.
    """
    from hydra.utils import instantiate

    target = config.get("_target_")
    if target is None:
        return None
    try:
        built = instantiate({key: value for key, value in config.items() if value is not None})
    except Exception as error:
        raise StudyError(f"the scheduler {target} cannot be built: {error}") from None
    if not isinstance(built, Scheduler):
        raise StudyError(f"hydra.sweeper.scheduler must be a subclass of Scheduler, got {target}")
    return built


def curves_of(trials: Sequence[FrozenTrial], maximize: bool) -> list[Curve]:
    """The trials as schedulers see them; all attempts of a trial are one curve."""
    continued = continued_attempts(trials)
    return [_curve_of(trial, maximize) for trial in trials if trial.number not in continued]


def _curve_of(trial: FrozenTrial, maximize: bool) -> Curve:
    sign = 1.0 if maximize else -1.0
    reports, seconds = reports_of(trial), seconds_of(trial)
    # Tasks may count from 0, or in optimizer steps: what schedulers count is reports.
    order = {step: position for position, step in enumerate(sorted(reports), start=1)}
    return Curve(
        number=first_number(trial),
        # An interrupted attempt that is not requeued yet continues soon.
        state=state_name(trial).replace("interrupted", "waiting"),
        values={order[step]: sign * value for step, value in reports.items()},
        params=trial.params,
        seconds={order[step]: value for step, value in seconds.items() if step in order},
        distributions=trial.distributions,
        max_resource=trial.system_attrs.get(MAX_RESOURCE),
    )


class Curves(Follower):
    """`curves_of` of each read: `Curves(maximize)(trials)`.

    Args:
        maximize: direction of the reported objective.
    """

    def __init__(self, maximize: bool) -> None:
        super().__init__()
        self._maximize = maximize
        self._forget()

    def _forget(self) -> None:
        # By the number of the attempt, lowest first: a new trial has the highest number so far.
        self._curves: dict[int, Curve] = {}

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[Curve]:
        self.update(trials)
        return list(self._curves.values())

    def _see(self, trial: FrozenTrial) -> None:
        if trial.number not in self._continued:
            self._curves[trial.number] = _curve_of(trial, self._maximize)

    def _see_continued(self, number: int) -> None:
        self._curves.pop(number, None)


def ledger_of(
    limit: Limit,
    trials: Sequence[FrozenTrial],
    curves: Sequence[Curve],
    *,
    can_pause: bool,
    deciding: int | None = None,
) -> Ledger:
    """What the study has spent of its budget.

    Args:
        limit: the budget.
        trials: all trials of the study.
        curves: the same trials as curves.
        can_pause: whether the sweep has a scheduler.
        deciding: number of a running trial that asks whether it takes another step.
    """
    continued = continued_attempts(trials)
    # An interrupted trial runs again soon, whatever is spent by then.
    in_flight = {
        first_number(trial)
        for trial in trials
        if trial.number not in continued and (trial.state == TrialState.RUNNING or _runs_again(trial))
    }
    return Ledger(limit, curves, in_flight - {deciding}, can_pause=can_pause)


def spent_text(budget: str | None, trials: Sequence[FrozenTrial]) -> str | None:
    """How much of a stored `hydra.sweeper.budget` is spent; None without one."""
    limit = Limit.parse(budget)
    if limit is None:
        return None
    ledger = Ledger(limit, curves_of(trials, maximize=True), (), can_pause=False)
    return f"{limit.amount_text(ledger.spent)} of {limit.text}"


def _runs_again(trial: FrozenTrial) -> bool:
    is_requeued = trial.state == TrialState.WAITING and attempt_of(trial) > 0 and not is_paused(trial)
    return is_requeued or is_interrupted(trial)


class PausedTrials:
    """The queue's view of paused trials; without a scheduler, they are ordinary waiting trials.

    Args:
        queue: the queue, whose lock is held in every call but `pause`.
        scheduler: decides what continues, or None.
        maximize: direction of the reported objective.
    """

    def __init__(self, queue: "TrialQueue", scheduler: Scheduler | None, maximize: bool) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self.curves = Curves(maximize)

    def of_queue(self, waiting: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the waiting trials that start without asking the scheduler and fit into what the study may spend."""
        if self._scheduler is not None:
            waiting = [trial for trial in waiting if not is_paused(trial)]
        if self._queue.budget.limit is None or all(map(_runs_again, waiting)):
            return list(waiting)
        ledger = self._ledger(self._queue.budget.limit, trials)
        return [
            trial
            for trial in waiting
            if _runs_again(trial)
            or (ledger.may_continue(first_number(trial)) if is_paused(trial) else ledger.may_start())
        ]

    def budget_spent(self, trials: Sequence[FrozenTrial]) -> str | None:
        """That the study has spent its budget and nothing runs any more, in a few words; else None."""
        limit, open_trials = self._queue.budget.limit, self._queue.tally.open.values()
        if limit is None or any(trial.state == TrialState.RUNNING or _runs_again(trial) for trial in open_trials):
            return None
        continued = continued_attempts(trials)
        last = [trial for trial in trials if trial.number not in continued]
        paused = [trial for trial in last if is_paused(trial)]
        if paused and self._scheduler is not None:
            return None
        if any(trial.state == TrialState.COMPLETE and not reports_of(trial) for trial in last):
            return f"the budget of {limit.text} cannot be counted, because the task does not report its epochs"
        ledger = self._ledger(limit, trials)
        if ledger.may_start() or any(ledger.may_continue(first_number(trial)) for trial in paused):
            return None
        if not any(trial.state == TrialState.COMPLETE for trial in last):
            return f"the budget of {limit.text} does not suffice to train one trial to its full length"
        spent = limit.amount_text(ledger.spent)
        return f"{spent} of the budget of {limit.text} are spent, and the rest does not suffice for another trial"

    def _ledger(self, limit: Limit, trials: Sequence[FrozenTrial], curves: Sequence[Curve] | None = None) -> Ledger:
        curves = self.curves(trials) if curves is None else curves
        return ledger_of(limit, trials, curves, can_pause=self._scheduler is not None)

    def claim(self, trials: Sequence[FrozenTrial], may_start: bool) -> FrozenTrial | None:
        """The paused or new trial that is worth most, started; None if there is none now."""
        queue, limit = self._queue, self._queue.budget.limit
        if self._scheduler is None:
            starts = may_start and (limit is None or self._ledger(limit, trials).may_start())
            return queue.start_new(trials) if starts else None
        curves: Sequence[Curve] = self.curves(trials)
        if limit is not None:
            ledger = self._ledger(limit, trials, curves)
            may_start = may_start and ledger.may_start()
            # What is left does not suffice to continue these.
            ended = {c.number for c in curves if c.state == "paused" and not ledger.may_continue(c.number)}
            curves = [replace(curve, state="pruned") if curve.number in ended else curve for curve in curves]
        choice = self._scheduler.choose(curves, may_start)
        if choice == START:
            return queue.start_new(trials)
        if choice is None:
            if not queue.tally.orphans() and not queue.tally.running():
                self.prune_all()
            return None
        chosen = next(trial for trial in queue.tally.paused() if first_number(trial) == choice)
        started = queue.start_waiting(chosen)
        if started is not None:
            queue.storage.set_trial_system_attr(id_of(chosen), PAUSED, None)
            started.system_attrs = {**started.system_attrs, PAUSED: None}
        return started

    def pause(self, trial_id: int) -> None:
        """Let a running trial of this worker wait until the scheduler continues it.

        Raises:
            UpdateFinishedTrialError: the trial was declared dead.
        """
        queue = self._queue
        with queue.shared.lock(queue.study_name):
            steps = reports_of(queue.storage.get_trial(trial_id))
            note = {"step": max(steps, default=None), "worker": queue.worker_id.worker}
            queue.storage.set_trial_system_attr(trial_id, PAUSED, note)
            queue.storage.set_trial_system_attr(trial_id, OWNER, None)
            queue.storage.set_trial_system_attr(trial_id, ALIVE, None)
            with queue.shared.exclusive():
                queue.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def prune_all(self) -> None:
        """End the paused trials as pruned ones, with the last report as their value, as Optuna does."""
        queue = self._queue
        if self._scheduler is None:
            return
        for completion, trial in enumerate(queue.tally.paused(), queue.tally.next_completion()):
            trial_id = id_of(trial)
            try:
                if queue.start_waiting(trial) is None:
                    continue
                queue.storage.set_trial_system_attr(trial_id, COMPLETION, completion)
                reports = trial.intermediate_values
                last = reports[max(reports)] if reports else math.nan
                with queue.shared.exclusive():
                    values = None if math.isnan(last) else [last]
                    queue.storage.set_trial_state_values(trial_id, TrialState.PRUNED, values)
            except UpdateFinishedTrialError:
                continue
            queue.ended.append(queue.storage.get_trial(trial_id))


class PausedLines:
    """Prints a line for each trial that paused since the last look.

    Args:
        trials: the trials at the start, whose pauses are not printed.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self._steps = {first_number(trial): _paused_step(trial) for trial in trials if is_paused(trial)}

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            number, step = first_number(trial), _paused_step(trial)
            if is_paused(trial) and self._steps.get(number) != step:
                self._steps[number] = step
                reports = reports_of(trial)
                value = f" {reports[step]:.4g}" if step in reports else ""
                print_line(f"{f'trial {number}':<10} paused  {value} | after step {step}")


def _paused_step(trial: FrozenTrial) -> int | None:
    note = trial.system_attrs.get(PAUSED) or {}
    step: int | None = note.get("step")
    return step
