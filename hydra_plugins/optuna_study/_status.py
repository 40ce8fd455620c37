"""A study as others see it: its state, read from its storage alone, and its printed lines."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._trial import StudyError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from ._budget import Counts
    from ._storage import Storage


@dataclass(frozen=True)
class TrialRow:
    """One attempt of a trial.

    Args:
        number: number of the trial's first attempt, as in its job directory.
        storage_number: number of this attempt in the storage, as in optuna-dashboard.
        attempt: 0 for the first attempt.
        state: complete, pruned, failed, running, paused, waiting or interrupted.
        values: the objectives; for a pruned trial its last report, if any.
        params: values by config key.
        user_attrs: the trial's user attributes.
        reported: step to reported value.
        started: when this attempt started.
        ended: when this attempt ended.
        reason: why it failed or was interrupted.
        feasible: whether it satisfies the constraints of the study's sampler, if it has any.
        seconds_at: step to seconds of training up to it, over all attempts; empty without a scheduler and a budget.
        max_resource: the number of reports of this trial if it runs to its end; None if unknown.
    """

    number: int
    storage_number: int
    attempt: int
    state: str
    values: tuple[float, ...]
    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any]
    reported: Mapping[int, float]
    started: datetime | None
    ended: datetime | None
    reason: str | None = None
    feasible: bool = True
    seconds_at: Mapping[int, float] = field(default_factory=dict)
    max_resource: int | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from start to end of this attempt."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True)
class WorkerRow:
    """A worker that runs a trial; `seconds_since_heartbeat` is by the clock of its host."""

    worker: int
    host: str
    pid: int
    trial: int
    seconds_since_heartbeat: float | None


@dataclass(frozen=True)
class StudyStatus:
    """The state of a study.

    Args:
        n_trials: number of finished trials that complete the study, or None if it has none or is of another sweeper.
        best: the feasible trials from best to worst; for several objectives the Pareto front.
        recommended: the complete trial that can be relied on most (`recommend`), which need not have the best value;
            None with several objectives or too few trials.
        definition: what is searched and how: `space`, `fixed` (overrides), `custom_search_space`, `common` (settings of
            all trials) and `methods` (sampler, pruner and scheduler); without those that the study does not store.
        stopped: why the sweep ended before it used its budget; only set for on_study_end.
        aborted: whether it ended because too many trials failed; only set for on_study_end.
        pruned_objective: index of the objective that the trials report.
        spent: how much of `hydra.sweeper.budget` is spent, for people; None without a budget.
    """

    name: str
    storage: str
    directions: tuple[str, ...]
    n_trials: int | None
    counts: "Counts"
    complete: bool
    best: Sequence[TrialRow]
    trials: Sequence[TrialRow]
    workers: Sequence[WorkerRow] = ()
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    stopped: str | None = None
    aborted: bool = False
    pruned_objective: int = 0
    spent: str | None = None
    recommended: TrialRow | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def winner(self) -> TrialRow | None:
        """The recommended trial, or without one the best; None with several objectives or without a trial."""
        return self.recommended or (self.best[0] if self.best and len(self.directions) == 1 else None)

    @property
    def recommendation(self) -> str | None:
        """Why the recommended trial is not the best one; None if it is."""
        if self.recommended is None or self.recommended.values == self.best[0].values:
            return None
        best = self.best[0]
        return f"trial {best.number} has the best value, {best.values[0]:.4g}, but trials similar to it did worse"

    @property
    def failures(self) -> Sequence[TrialRow]:
        return [trial for trial in self.trials if trial.state == "failed"]

    @property
    def no_best(self) -> str | None:
        """Why no complete trial is best, in one line, or None."""
        if self.best or not self.counts.complete:
            return None
        return f"no feasible trial: each of the {self.counts.complete} complete ones violates a constraint"


def trial_row(trial: "FrozenTrial") -> TrialRow:
    from ._budget import (
        FAILURE,
        INTERRUPTED,
        MAX_RESOURCE,
        attempt_of,
        first_number,
        is_feasible,
        reports_of,
        seconds_of,
        state_name,
    )

    note = trial.system_attrs.get(INTERRUPTED) or {}
    return TrialRow(
        number=first_number(trial),
        storage_number=trial.number,
        attempt=attempt_of(trial),
        state=state_name(trial),
        values=tuple(trial.values or ()),
        params={name.partition(" (")[0]: value for name, value in trial.params.items()},
        user_attrs=dict(trial.user_attrs),
        reported=reports_of(trial),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reason=trial.user_attrs.get(FAILURE) or note.get("reason"),
        feasible=is_feasible(trial),
        seconds_at=seconds_of(trial),
        max_resource=trial.system_attrs.get(MAX_RESOURCE),
    )


def status_of(storage: "Storage", name: str) -> StudyStatus:
    """The status of a study in an open storage.

    Raises:
        StudyError: there is no such study; the message lists the existing ones.
    """
    from ._budget import SETTINGS, continued_attempts, count_trials, feasible_trials, first_number, is_interrupted
    from ._monitoring._recommendation import recommend
    from ._optuna import pareto_front
    from ._schedulers._pausing import curves_of, spent_text

    inner = storage.optuna
    try:
        study_id = inner.get_study_id_from_name(name)
    except KeyError:
        known = ", ".join(sorted(study.study_name for study in inner.get_all_studies())) or "none"
        raise StudyError(f"no study '{name}' in {storage.spec.shown}; known: {known}") from None
    directions = inner.get_study_directions(study_id)
    trials = inner.get_all_trials(study_id, deepcopy=False)
    best, recommended = feasible_trials(trials), None
    if len(directions) == 1:
        sign = -1.0 if directions[0].name == "MAXIMIZE" else 1.0
        best.sort(key=lambda trial: (sign * trial.values[0], trial.number))
        finals = {first_number(trial): -sign * trial.values[0] for trial in best}
        recommended = recommend(curves_of(trials, maximize=sign < 0), finals)
    else:
        best = pareto_front(best, directions)
    attrs = inner.get_study_system_attrs(study_id)
    settings = attrs.get(SETTINGS, {})
    n_trials = settings.get("n_trials")
    counts, continued = count_trials(trials), continued_attempts(trials)
    done = counts.finished + (counts.failed if settings.get("failures_count") else 0)
    return StudyStatus(
        name=name,
        storage=storage.spec.shown,
        directions=tuple(direction.name.lower() for direction in directions),
        n_trials=n_trials,
        counts=counts,
        complete=n_trials is not None and done >= n_trials,
        best=[trial_row(trial) for trial in best],
        trials=[trial_row(trial) for trial in trials if not is_interrupted(trial) and trial.number not in continued],
        workers=[row for row in map(_worker_row, trials) if row is not None],
        user_attrs=inner.get_study_user_attrs(study_id),
        pruned_objective=settings.get("pruned_objective", 0),
        spent=spent_text(settings.get("budget"), trials),
        recommended=next((trial_row(trial) for trial in best if first_number(trial) == recommended), None),
        definition=_definition(attrs),
    )


def _definition(attrs: Mapping[str, Any]) -> dict[str, Any]:
    from ._budget import COMMON, DEFINITION, SETTINGS

    found = dict(attrs.get(DEFINITION) or {})
    found.pop("directions", None)
    stored = {"common": attrs.get(COMMON), "methods": attrs.get(SETTINGS, {}).get("methods")}
    return found | {name: value for name, value in stored.items() if value is not None}


def _worker_row(trial: "FrozenTrial") -> WorkerRow | None:
    from ._budget import ALIVE, OWNER, first_number
    from ._heartbeat import WorkerId

    owner = WorkerId.from_stored(trial.system_attrs.get(OWNER))
    if trial.state.name != "RUNNING" or owner is None:
        return None
    heartbeat = trial.system_attrs.get(ALIVE)
    last = heartbeat[1] if heartbeat else trial.datetime_start.timestamp() if trial.datetime_start else None
    since = max(0.0, time.time() - last) if last is not None else None
    return WorkerRow(owner.worker, owner.host, owner.pid, first_number(trial), since)


def study_status(storage: Any, name: str) -> StudyStatus:
    """The state of a study: counts, best trials, workers with their last heartbeat, failures with their reasons.

    Args:
        storage: as in `hydra.sweeper.storage`.
        name: name of the study.

    Raises:
        StudyError: the storage cannot be opened or has no such study.

    Example:
        >>> study_status("sqlite:///mlruns/optuna.db", "finetune").counts.complete  # doctest: +SKIP
        20
    """
    from ._storage import Storage, storage_spec

    spec = storage_spec(storage)
    if spec.path is not None and not spec.path.exists():
        raise StudyError(f"no study '{name}': there is no file {spec.path}")
    opened = Storage(spec, retry_minutes=0.5)
    try:
        return status_of(opened, name)
    finally:
        opened.close()
