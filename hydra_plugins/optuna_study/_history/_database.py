"""DatabaseReader: reads what changed in a study since the last read, in a database, and nothing else."""

import threading
from collections.abc import Collection
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from .._budget import COMPLETION
from .._optuna import CachedTrials, id_of
from ._follower import Follower
from ._tally import Tally

# Databases that store the start of a trial to the microsecond.
_EXACT_TIMES = ("sqlite", "postgresql")


class _Waiting(Follower):
    """The waiting trials of a study by id, each with its state and start as last seen, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.in_order = 0  # how many trials, from the first, are in order in Optuna's cache
        self._forget()

    def _forget(self) -> None:
        self.seen: dict[int, Any] = {}

    def _see(self, trial: FrozenTrial) -> None:
        if trial.state == TrialState.WAITING:
            self.seen.setdefault(id_of(trial), None)
        else:
            self.seen.pop(id_of(trial), None)


class DatabaseReader:
    """The trials of studies in a database.

    Optuna's cache, too, reads trials that have ended only once. But it reads all waiting trials each time, of which a
    study with a scheduler has many, and then sorts all trials of the study. Here, a waiting trial is read again only if
    its state or its start has changed: nothing else of it changes before it runs.

    Args:
        storage: Optuna's cache of the database.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._cached = CachedTrials(storage)
        self._waiting: dict[int, _Waiting] = {}
        self._mutex = threading.Lock()

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """Read all trials of the study, lowest number first."""
        with self._mutex:
            waiting = self._waiting.setdefault(study_id, _Waiting())
            # Before the trials themselves: what changes in between has another state or start in the next call.
            now = self._states_of(waiting.seen)
            unchanged = {trial_id for trial_id, state in now.items() if state == waiting.seen[trial_id]}
            trials = list(self._cached.read(study_id, unchanged, waiting.seen.keys() - unchanged).values())
            waiting.seen.update(now)
            if all(trials[number].number == number for number in range(waiting.in_order, len(trials))):
                waiting.in_order = len(trials)
            else:
                trials.sort(key=lambda trial: trial.number)
            waiting.update(trials)
            return trials

    def _states_of(self, trial_ids: Collection[int]) -> dict[int, Any]:
        import sqlalchemy as sql

        if not trial_ids or self._cached.engine.name not in _EXACT_TIMES:
            return {}
        trials = sql.table("trials", *map(sql.column, ("trial_id", "state", "datetime_start")))
        query = sql.select(trials).where(trials.c.trial_id.in_(_literal(trial_ids)))
        with self._cached.engine.connect() as connection:
            return {trial_id: (state, started) for trial_id, state, started in connection.execute(query)}

    def next_completion(self, study_id: int, tally: Tally) -> int:
        """The completion counter of the trial that ends next, by reading the counters of trials that ended lately.

        Args:
            study_id: id of the study.
            tally: what all trials before were.
        """
        import sqlalchemy as sql

        trials = sql.table("trials", *map(sql.column, ("trial_id", "study_id")))
        attrs = sql.table("trial_system_attributes", *map(sql.column, ("trial_id", "key", "value_json")))
        unknown = [id_of(trial) for trial in tally.open.values()]
        may_have_ended = sql.or_(trials.c.trial_id.in_(_literal(unknown)), trials.c.trial_id > tally.last_id)
        query = (
            sql.select(attrs.c.value_json)
            .join(trials, trials.c.trial_id == attrs.c.trial_id)
            # "+ 0": by the index of study_id, SQLite would go through all trials of the study.
            .where(trials.c.study_id + 0 == study_id, attrs.c.key == COMPLETION, may_have_ended)
        )
        with self._cached.engine.connect() as connection:
            counters = connection.execute(query).scalars().all()
        return max(tally.next_completion(), *(int(counter) + 1 for counter in counters), 1)


def _literal(trial_ids: Collection[int]) -> Any:
    """These ids in the text of a query, because the number of its parameters is limited."""
    import sqlalchemy as sql

    return sql.bindparam("ids", list(trial_ids), type_=sql.Integer, expanding=True, literal_execute=True)
