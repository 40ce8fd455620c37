"""The rule that makes the number of finished trials exact, as functions of a list of trials.

Trials are numbered in the order of their creation, on every storage. Each one holds a place in the budget unless it
failed or was interrupted. A waiting trial may start only if fewer than n_trials trials with lower numbers hold a place.
A place once given up is never taken back by the same trial, so a trial that may start now may start for ever, the
trials that may start and hold a place are always the first n_trials of those that hold one, and no number of workers
and no unlucky moment lets one more finish. The only thing asked of the storage is that one of two workers that claim
the same waiting trial fails.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from ._attrs import COMPLETION, FIRST_ATTEMPT, INTERRUPTED, OWNER, RETRY_HISTORY

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Rules:
    """Args:
    n_trials: finished trials the study is to have.
    failures_count: whether a failed trial takes up budget; so where the values can be listed, because trying a
        failed one again is no use there.
    max_failures: failed trials in one launch at which no further trial starts.
    failures_judged_from: finished or failed trials from which on `max_failures` is looked at.
    patience: finished trials without a better one after which no further trial starts.
    """

    n_trials: int
    failures_count: bool = False
    max_failures: int = 1
    failures_judged_from: int = 1
    patience: int | None = None
    max_retries: int = 3


@dataclass(frozen=True)
class Counts:
    """`failed` are those of this launch that ended for good; `failed_before` those of earlier launches."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    failed_before: int = 0
    running: int = 0
    waiting: int = 0
    interrupted: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned


def first_number(trial: FrozenTrial) -> int:
    """The number of the trial's first attempt, by which people and job directories know it."""
    return int(trial.system_attrs.get(FIRST_ATTEMPT, trial.number))


def attempt_of(trial: FrozenTrial) -> int:
    """0 for the first attempt."""
    return len(trial.system_attrs.get(RETRY_HISTORY, ()))


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether this attempt ended without a result and another one goes on with it."""
    note = trial.system_attrs.get(INTERRUPTED)
    return trial.state == TrialState.FAIL and note is not None and not note.get("final", False)


def is_failed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and not is_interrupted(trial)


def counted_attempts(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """Attempts of this trial, itself included, whose worker died."""
    numbers = {*trial.system_attrs.get(RETRY_HISTORY, ()), trial.number}
    notes = (other.system_attrs.get(INTERRUPTED) for other in trials if other.number in numbers)
    return sum(1 for note in notes if note is not None and note.get("counted", True))


def holds_place(trial: FrozenTrial, rules: Rules) -> bool:
    if trial.state == TrialState.FAIL:
        return rules.failures_count and is_failed(trial)
    return True


def may_start(trials: Iterable[FrozenTrial], rules: Rules) -> list[FrozenTrial]:
    """The waiting trials within the budget, lowest number first."""
    startable, places = [], 0
    for trial in sorted(trials, key=lambda trial: trial.number):
        if places >= rules.n_trials:
            break
        if trial.state == TrialState.WAITING:
            startable.append(trial)
        places += holds_place(trial, rules)
    return startable


def places_held(trials: Iterable[FrozenTrial], rules: Rules) -> int:
    return sum(holds_place(trial, rules) for trial in trials)


def count(trials: Iterable[FrozenTrial], launch: str | None = None) -> Counts:
    """How many trials are in which state. Without a launch, every failure counts as this launch's."""
    tally = dict.fromkeys(Counts.__dataclass_fields__, 0)
    for trial in trials:
        if is_interrupted(trial):
            tally["interrupted"] += 1
        elif trial.state == TrialState.FAIL:
            mine = launch is None or trial.system_attrs.get(OWNER, {}).get("launch") == launch
            tally["failed" if mine else "failed_before"] += 1
        else:
            tally[trial.state.name.lower()] += 1
    return Counts(**tally)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial satisfies every constraint, which are met at 0 and below; so does one without constraints."""
    # Optuna notes None where the sampler's constraints_func failed or answered NaN: that shows no feasible trial.
    unknown = "constraints" in trial.system_attrs and trial.system_attrs["constraints"] is None
    return not unknown and all(value <= 0 for value in trial.constraints.values())


def feasible(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials that may be called best."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values and is_feasible(trial)]


def best_of(trials: Iterable[FrozenTrial], maximize: bool) -> FrozenTrial | None:
    # The first of several equal ones, whatever the direction.
    return min(
        feasible(trials),
        key=lambda trial: (-trial.values[0] if maximize else trial.values[0], trial.number),
        default=None,
    )


def completion(trial: FrozenTrial) -> tuple[int, int]:
    """Where the trial stands in the order in which trials ended.

    Not by `datetime_complete`: that is the clock of whichever worker ran it. Trials from before there was a counter
    come first, by number.
    """
    return int(trial.system_attrs.get(COMPLETION, 0)), trial.number


def next_completion(trials: Iterable[FrozenTrial]) -> int:
    """The number of the trial that ends next."""
    return 1 + max((int(trial.system_attrs.get(COMPLETION, 0)) for trial in trials), default=0)


def finished_since_best(trials: Sequence[FrozenTrial], maximize: bool) -> int:
    """Finished trials that ended after the best value was first reached."""
    best = best_of(trials, maximize)
    if best is None:
        return 0
    reached = min(completion(trial) for trial in feasible(trials) if trial.values[0] == best.values[0])
    return sum(1 for trial in trials if trial.state in _FINISHED and completion(trial) > reached)


def are_too_many_failures(counts: Counts, rules: Rules) -> bool:
    """Whether the share of failures is too large, or a whole budget of trials failed: a broken task ends, too."""
    judged = counts.finished + counts.failed >= rules.failures_judged_from
    return counts.failed >= rules.n_trials or (judged and counts.failed >= rules.max_failures)


def why_stop(trials: Sequence[FrozenTrial], rules: Rules, launch: str, maximize: bool) -> str | None:
    """Why no further trial starts although budget may be left, or None."""
    counts = count(trials, launch)
    if are_too_many_failures(counts, rules):
        return f"{counts.failed} {'trial' if counts.failed == 1 else 'trials'} failed"
    if rules.patience is not None and finished_since_best(trials, maximize) >= rules.patience:
        return f"no better value in the last {rules.patience} finished trials"
    return None
