"""A study's state at any time, from its storage alone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._errors import StudyError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ._budget import Counts
    from ._store import Store


@dataclass(frozen=True)
class TrialRow:
    """Args:
    number: of the trial's first attempt, as in its job directory.
    storage_number: of this attempt in the storage, as optuna-dashboard shows it.
    state: complete, pruned, failed, running, waiting or interrupted.
    values: the objectives; for a pruned trial its last report, if any.
    params: by config key.
    seconds: from start to end, of this attempt.
    feasible: whether it satisfies the constraints of the study's sampler, as far as it has any.
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

    @property
    def seconds(self) -> float | None:
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True)
class WorkerRow:
    """A worker with a running trial. `silent` is the seconds since its last sign of life, by its host's clock."""

    worker: int
    host: str
    pid: int
    trial: int
    silent: float | None


@dataclass(frozen=True)
class StudyStatus:
    """Args:
    n_trials: what the study is to have, or None when this sweeper has not opened it.
    best: the best feasible trials first: one ranking for one objective, the Pareto front for several.
    stopped: why the sweep ended before its budget was full; only known to on_study_end.
    gave_up: whether that was because too many trials failed.
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
    gave_up: bool = False

    @property
    def failures(self) -> Sequence[TrialRow]:
        return [trial for trial in self.trials if trial.state == "failed"]

    @property
    def no_best(self) -> str | None:
        """Why complete trials give no best one, in one line, or None."""
        if self.best or not self.counts.complete:
            return None
        return f"no feasible trial: each of the {self.counts.complete} complete ones violates a constraint"


def trial_row(trial: "FrozenTrial") -> TrialRow:
    from ._attrs import FAILURE, INTERRUPTED
    from ._budget import attempt_of, first_number, is_feasible, is_interrupted
    from ._pruning import reports_of

    state = "interrupted" if is_interrupted(trial) else trial.state.name.lower().replace("fail", "failed")
    note = trial.system_attrs.get(INTERRUPTED) or {}
    return TrialRow(
        number=first_number(trial),
        storage_number=trial.number,
        attempt=attempt_of(trial),
        state=state,
        values=tuple(trial.values or ()),
        params={name.partition(" (")[0]: value for name, value in trial.params.items()},
        user_attrs=dict(trial.user_attrs),
        reported=reports_of(trial),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reason=trial.user_attrs.get(FAILURE) or note.get("reason"),
        feasible=is_feasible(trial),
    )


def status_of(store: "Store", name: str) -> StudyStatus:
    """Raises:
    StudyError: there is no such study; the message names those there are.
    """
    from optuna.study._multi_objective import _get_pareto_front_trials_by_trials

    from ._attrs import SETTINGS
    from ._budget import count, feasible, is_interrupted

    storage = store.storage
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        known = ", ".join(sorted(study.study_name for study in storage.get_all_studies())) or "none"
        raise StudyError(f"no study '{name}' in {store.spec.shown}; known: {known}") from None
    ways = storage.get_study_directions(study_id)
    directions = tuple(way.name.lower() for way in ways)
    trials = storage.get_all_trials(study_id, deepcopy=False)
    complete = feasible(trials)
    if len(directions) == 1:
        sign = -1.0 if directions[0] == "maximize" else 1.0
        best = sorted(complete, key=lambda trial: (sign * trial.values[0], trial.number))
    else:
        best = _get_pareto_front_trials_by_trials(complete, ways)
    settings = storage.get_study_system_attrs(study_id).get(SETTINGS, {})
    n_trials = settings.get("n_trials")
    counts = count(trials)
    done = counts.finished + (counts.failed if settings.get("failures_count") else 0)
    return StudyStatus(
        name=name,
        storage=store.spec.shown,
        directions=directions,
        n_trials=n_trials,
        counts=counts,
        complete=n_trials is not None and done >= n_trials,
        best=[trial_row(trial) for trial in best],
        trials=[trial_row(trial) for trial in trials if not is_interrupted(trial)],
        workers=[row for row in map(_worker_row, trials) if row is not None],
        user_attrs=storage.get_study_user_attrs(study_id),
    )


def _worker_row(trial: "FrozenTrial") -> WorkerRow | None:
    from ._attrs import ALIVE, OWNER
    from ._budget import first_number
    from ._owner import Owner

    owner = Owner.read(trial.system_attrs.get(OWNER))
    if trial.state.name != "RUNNING" or owner is None:
        return None
    beat = trial.system_attrs.get(ALIVE)
    last = beat[1] if beat else trial.datetime_start.timestamp() if trial.datetime_start else None
    silent = max(0.0, time.time() - last) if last is not None else None
    return WorkerRow(owner.worker, owner.host, owner.pid, first_number(trial), silent)


def study_status(storage: Any, name: str) -> StudyStatus:
    """The state of a study: counts, best trials, workers with their last sign of life, failures with reasons.

    Args:
    storage: as in `hydra.sweeper.storage`.

    Raises:
        StudyError: the storage cannot be opened or has no such study.
    """
    from ._spec import storage_spec
    from ._store import Store

    spec = storage_spec(storage)
    if spec.path is not None and not spec.path.exists():
        raise StudyError(f"no study '{name}': there is no file {spec.path}")
    store = Store(spec, patience=0.5)
    try:
        return status_of(store, name)
    finally:
        store.close()


def load_study(storage: Any, name: str) -> "optuna.Study":
    """Optuna's own study, for plots and importances, from any storage that the sweeper takes.

    Args:
    storage: as in `hydra.sweeper.storage`.

    Raises:
        StudyError: the storage cannot be opened or has no such study.
    """
    import optuna

    from ._spec import storage_spec
    from ._store import Store

    store = Store(storage_spec(storage), patience=0.5)
    status_of(store, name)
    return optuna.load_study(study_name=name, storage=store.storage)
