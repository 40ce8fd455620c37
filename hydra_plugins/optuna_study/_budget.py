"""What the stored trials of a study say: which may start, how many count, which is best, and why the study stops.

All functions here take lists of trials and use no storage and no clock.

The budget rule makes the number of finished trials exact on every storage. Trials are numbered in the order of their
creation. Each one uses budget unless it failed, or was interrupted and another attempt exists. A waiting trial may
start only if fewer than n_trials trials with lower numbers use budget. A trial that stops using budget never uses it
again, so a trial that may start now may also start at any later time, and the trials that may start and use budget are
always the first n_trials of those that use it. Neither the number of workers nor timing can make one more trial finish.
The storage only has to guarantee that one of two workers that claim the same waiting trial fails.
"""

import copy
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from ._schedulers._spending import Limit

# Names under which a study and its trials store what the plugin knows about them, next to Optuna's own attributes.
# They are part of existing studies and never change.
_PREFIX = "optuna_study:"

# System attributes of a trial.
OWNER = _PREFIX + "owner"  # the worker that runs it, as WorkerId.to_stored() writes it
ALIVE = _PREFIX + "alive"  # [number of the heartbeat, its time on the worker's clock]
INTERRUPTED = _PREFIX + "interrupted"  # {"reason", "counted", "final"}: why this attempt ended without a result
COMPLETION = _PREFIX + "completion"  # 1 for the first trial of the study that ended, 2 for the second, ...
STEPS = _PREFIX + "steps"  # with several objectives: {step: reported value}
PRUNED_AT = _PREFIX + "pruned_at"  # the step at which the pruner decided to prune
PAUSED = _PREFIX + "paused"  # {"step", "worker"} of a trial that a scheduler paused, else missing or null
SECONDS = _PREFIX + "seconds"  # {step: seconds of training up to it, over all attempts}
STANDARD_ERROR = _PREFIX + "standard_error"  # of the trial's value, as its task said it
MAX_RESOURCE = _PREFIX + "max_resource"  # the number of reports of a trial that runs to its end
RETRY_HISTORY = "retry_history"  # Optuna's own name: numbers of the earlier attempts
FIRST_ATTEMPT = "failed_trial"  # Optuna's own name: number of the first attempt

# User attributes of a trial.
JOB_DIR = "job_dir"
FAILURE = "failure"

# System attributes of a study.
DEFINITION = _PREFIX + "definition"  # search space, directions and fixed overrides
COMMON = _PREFIX + "common_settings"  # the values of all keys that are no part of the search space
SETTINGS = _PREFIX + "settings"  # n_trials and whatever else a status needs
WORKERS = _PREFIX + "workers_launched"
EXHAUSTED = _PREFIX + "exhausted"
NOISE = _PREFIX + "noise"  # what `hydra.sweeper.stop_when=noise` found last, see `_monitoring._noise`
ENDING = _PREFIX + "ending"  # the process that calls on_study_end, and its heartbeat
ENDED = _PREFIX + "ended"  # the trials for which on_study_end was last called


@dataclass(frozen=True)
class Budget:
    """When a study is complete, and when it stops early.

    Args:
        n_trials: number of finished trials that complete the study; None if only `limit` ends it.
        failures_use_budget: whether a failed trial uses budget. True for samplers that try every combination once.
        max_failures: number of failed trials of one launch at which no further trial starts.
        min_trials_for_failures: number of finished or failed trials from which `max_failures` applies.
        early_stopping_patience: number of finished trials without a better value after which no further trial starts.
        max_retries: number of times that a trial whose worker died is run again.
        max_failure_rate: without `n_trials`: the share of the ended trials that may fail.
        limit: seconds or epochs of training over all trials.
        stop_when: `noise` to stop when further trials would gain less than what the noise hides, or None.
    """

    n_trials: int | None
    failures_use_budget: bool = False
    max_failures: int = 1
    min_trials_for_failures: int = 1
    early_stopping_patience: int | None = None
    max_retries: int = 3
    max_failure_rate: float = 1.0
    limit: "Limit | None" = None
    stop_when: str | None = None

    @property
    def most_trials(self) -> float:
        return math.inf if self.n_trials is None else self.n_trials

    @property
    def text(self) -> str:
        """What the study may use, for people; it follows the number of trials so far."""
        target = "trials" if self.n_trials is None else f"of {self.n_trials} trials"
        return target if self.limit is None else f"{target} within a budget of {self.limit.text}"


@dataclass(frozen=True)
class Counts:
    """Number of trials in each state; `failed` are those of this launch, `failed_before` those of earlier launches."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    failed_before: int = 0
    running: int = 0
    waiting: int = 0
    interrupted: int = 0
    paused: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__dataclass_fields__))


def first_number(trial: FrozenTrial) -> int:
    """The number of the trial's first attempt, which people see and which job directories are named after."""
    return int(trial.system_attrs.get(FIRST_ATTEMPT, trial.number))


def attempt_of(trial: FrozenTrial) -> int:
    """0 for the first attempt, 1 for the second."""
    return len(trial.system_attrs.get(RETRY_HISTORY, ()))


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether this attempt ended without a result and another attempt continues the trial."""
    note = trial.system_attrs.get(INTERRUPTED)
    return trial.state == TrialState.FAIL and note is not None and not note.get("final", False)


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a scheduler paused this trial; for the storage it waits, and any worker may continue it."""
    return trial.state == TrialState.WAITING and trial.system_attrs.get(PAUSED) is not None


def was_paused(trial: FrozenTrial) -> bool:
    """Whether this trial was pruned only because the sweep ended while it was paused; a larger budget continues it."""
    return trial.state == TrialState.PRUNED and trial.system_attrs.get(PAUSED) is not None


def is_failed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and not is_interrupted(trial)


def worker_deaths(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """The number of attempts of this trial, itself included, whose worker died."""
    numbers = {*trial.system_attrs.get(RETRY_HISTORY, ()), trial.number}
    notes = (other.system_attrs.get(INTERRUPTED) for other in trials if other.number in numbers)
    return sum(1 for note in notes if note is not None and note.get("counted", True))


def reports_of(trial: FrozenTrial) -> dict[int, float]:
    """Step to reported value, for one objective or several."""
    stored: dict[str, Any] = trial.system_attrs.get(STEPS) or {}
    return {**trial.intermediate_values, **{int(step): float(value) for step, value in stored.items()}}


def state_name(trial: FrozenTrial) -> str:
    """complete, pruned, failed, running, paused, waiting, or interrupted for an attempt that another one continues."""
    if is_interrupted(trial):
        return "interrupted"
    return "paused" if is_paused(trial) else trial.state.name.lower().replace("fail", "failed")


def seconds_of(trial: FrozenTrial) -> dict[int, float]:
    """Step to seconds of training up to it, over all attempts."""
    return {int(step): float(value) for step, value in (trial.system_attrs.get(SECONDS) or {}).items()}


def uses_budget(trial: FrozenTrial, budget: Budget, continued: Collection[int]) -> bool:
    if is_interrupted(trial):
        # Until the next attempt exists, no other trial takes its place: the process that ended it may have died.
        return trial.number not in continued
    if was_paused(trial) and trial.number in continued:
        return False
    return trial.state != TrialState.FAIL or budget.failures_use_budget


def continued_attempts(trials: Iterable[FrozenTrial]) -> set[int]:
    """The numbers of the attempts that another attempt continues."""
    return {number for trial in trials for number in trial.system_attrs.get(RETRY_HISTORY, ())}


def budget_used(trials: Sequence[FrozenTrial], budget: Budget) -> int:
    continued = continued_attempts(trials)
    return sum(uses_budget(trial, budget, continued) for trial in trials)


def startable_trials(trials: Sequence[FrozenTrial], budget: Budget) -> list[FrozenTrial]:
    """The waiting trials within the budget, lowest number first."""
    startable, used, continued = [], 0, continued_attempts(trials)
    for trial in sorted(trials, key=lambda trial: trial.number):
        if used >= budget.most_trials:
            break
        if trial.state == TrialState.WAITING:
            startable.append(trial)
        used += uses_budget(trial, budget, continued)
    return startable


def count_trials(trials: Iterable[FrozenTrial], launch_id: str | None = None) -> Counts:
    """How many trials are in which state. Without a launch, every failed trial counts as failed in this launch."""
    trials = list(trials)
    tally, continued = dict.fromkeys(Counts.__dataclass_fields__, 0), continued_attempts(trials)
    for trial in trials:
        if is_interrupted(trial) or (was_paused(trial) and trial.number in continued):
            tally["interrupted"] += 1
        elif trial.state == TrialState.FAIL:
            in_this_launch = launch_id is None or trial.system_attrs.get(OWNER, {}).get("launch") == launch_id
            tally["failed" if in_this_launch else "failed_before"] += 1
        elif is_paused(trial):
            tally["paused"] += 1
        else:
            tally[trial.state.name.lower()] += 1
    return Counts(**tally)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether every constraint of the trial is at most 0; true for a trial without constraints."""
    # Optuna stores None if the sampler's constraints_func failed or returned NaN: the trial may not be feasible.
    unknown = "constraints" in trial.system_attrs and trial.system_attrs["constraints"] is None
    return not unknown and all(value <= 0 for value in trial.constraints.values())


def feasible_trials(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials that can be the best one."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values and is_feasible(trial)]


def best_trial(trials: Iterable[FrozenTrial], maximize: bool) -> FrozenTrial | None:
    """The feasible trial with the best value; of several equal ones the first, whatever the direction."""
    return min(
        feasible_trials(trials),
        key=lambda trial: (-trial.values[0] if maximize else trial.values[0], trial.number),
        default=None,
    )


def completion_order(trial: FrozenTrial) -> tuple[int, int]:
    """Sort key for the order in which trials ended.

    `datetime_complete` does not serve: it is from the clock of the worker. Trials that were stored before the counter
    existed come first, by number.
    """
    return int(trial.system_attrs.get(COMPLETION, 0)), trial.number


def next_completion(trials: Iterable[FrozenTrial]) -> int:
    """The completion counter of the trial that ends next."""
    return 1 + max((int(trial.system_attrs.get(COMPLETION, 0)) for trial in trials), default=0)


def finished_since_best(trials: Sequence[FrozenTrial], maximize: bool) -> int:
    """The number of finished trials that ended after the best value was first reached."""
    best = best_trial(trials, maximize)
    if best is None:
        return 0
    reached = min(completion_order(trial) for trial in feasible_trials(trials) if trial.values[0] == best.values[0])
    continued = continued_attempts(trials)
    finished = (
        trial
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.number not in continued
    )
    return sum(completion_order(trial) > reached for trial in finished)


def has_too_many_failures(counts: Counts, budget: Budget) -> bool:
    """Whether the share of failures is too large, or as many trials failed as the study is to have."""
    ended = counts.finished + counts.failed
    most = budget.max_failures
    if budget.n_trials is None:
        most = math.floor(budget.max_failure_rate * ended + 1e-9) + 1
    enough_trials = ended >= budget.min_trials_for_failures
    return counts.failed >= budget.most_trials or (enough_trials and counts.failed >= most)


def stop_reason(trials: Sequence[FrozenTrial], budget: Budget, launch_id: str, maximize: bool) -> str | None:
    """Why no further trial starts although there is budget left, or None."""
    return reason_to_stop(count_trials(trials, launch_id), finished_since_best(trials, maximize), budget)


def reason_to_stop(counts: Counts, since_best: int, budget: Budget) -> str | None:
    """As `stop_reason`, given what it counts."""
    if has_too_many_failures(counts, budget):
        return f"{counts.failed} {'trial' if counts.failed == 1 else 'trials'} failed"
    patience = budget.early_stopping_patience
    if patience is not None and since_best >= patience:
        return f"no better value in the last {patience} finished trials"
    return None


@dataclass(frozen=True)
class Progress:
    """How far a study is. `stopped` says why no further trial starts although there is budget left."""

    counts: Counts
    complete: bool
    stopped: str | None

    @property
    def is_over(self) -> bool:
        return self.complete or self.stopped is not None


def signs_of_progress(trials: Sequence[FrozenTrial]) -> tuple[int, int, int]:
    """What every launch with progress changes: trials that ended for good, reported values, counted retries."""
    ended = sum(trial.state.is_finished() and not is_interrupted(trial) for trial in trials)
    reports = len({(first_number(trial), step) for trial in trials for step in reports_of(trial)})
    notes = (trial.system_attrs.get(INTERRUPTED) or {} for trial in trials)
    return ended, reports, sum(bool(note.get("counted")) for note in notes)


# Samplers and pruners use trial numbers (Hyperband derives a trial's bracket from its number, the grid sampler its
# cell) and count every trial. For them, all attempts of a trial are one trial, numbered as if there were no retries.


def merge_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The last attempt of each trial, in the order of the first attempts; a requeued attempt counts as the last.

    Samplers ignore waiting trials, so a paused one looks like a pruned one to them.
    """
    continued = continued_attempts(trials)
    if not continued:
        return [as_shown(trial, trial.number) for trial in trials]
    firsts = sorted(trial.number for trial in trials if not attempt_of(trial))
    numbers = {first: number for number, first in enumerate(firsts)}
    merged = [
        as_shown(trial, numbers.get(first_number(trial), trial.number))
        for trial in trials
        if trial.number not in continued
    ]
    return sorted(merged, key=lambda trial: trial.number)


def as_shown(trial: FrozenTrial, number: int) -> FrozenTrial:
    """The trial as samplers and pruners see it, under this number; the trial itself if nothing differs."""
    if trial.number == number and not is_paused(trial):
        return trial
    shown = copy.copy(trial)
    shown.number = number
    if is_paused(trial):
        shown.state = TrialState.PRUNED
    return shown


def number_without_retries(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> int:
    """The number that this trial would have if retries had no numbers."""
    first = first_number(trial)
    return first - sum(1 for other in trials if other.number < first and attempt_of(other))
