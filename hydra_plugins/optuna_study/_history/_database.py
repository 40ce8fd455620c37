"""DatabaseReader: reads what changed in a study since the last read, in a database, and nothing else."""

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from .._budget import COMPLETION
from .._optuna import CachedTrials, id_of
from ._tally import Tally


class DatabaseReader:
    """The trials of a study in a database.

    Optuna's cache reads only what may have changed, too, but then sorts all trials of the study.

    Args:
        storage: Optuna's cache of the database.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._cached = CachedTrials(storage)
        # By study: how many trials, from the first, are in order in the cache.
        self._in_order: dict[int, int] = {}

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """Read all trials of the study, lowest number first."""
        trials = list(self._cached.read(study_id).values())
        known = self._in_order.get(study_id, 0)
        if any(trials[number].number != number for number in range(known, len(trials))):
            return sorted(trials, key=lambda trial: trial.number)
        self._in_order[study_id] = len(trials)
        return trials

    def next_completion(self, study_id: int, tally: Tally) -> int:
        """The completion counter of the trial that ends next, by reading the counters of trials that ended lately.

        Args:
            study_id: id of the study.
            tally: what all trials before were.
        """
        import sqlalchemy as sql

        trials = sql.table("trials", *map(sql.column, ("trial_id", "study_id")))
        attrs = sql.table("trial_system_attributes", *map(sql.column, ("trial_id", "key", "value_json")))
        may_have_ended = sql.or_(
            trials.c.trial_id.in_([id_of(trial) for trial in tally.open.values()]), trials.c.trial_id > tally.last_id
        )
        query = (
            sql.select(attrs.c.value_json)
            .join(trials, trials.c.trial_id == attrs.c.trial_id)
            # "+ 0": by the index of study_id, SQLite would go through all trials of the study.
            .where(trials.c.study_id + 0 == study_id, attrs.c.key == COMPLETION, may_have_ended)
        )
        with self._cached.engine.connect() as connection:
            counters = connection.execute(query).scalars().all()
        return max(tally.next_completion(), *(int(counter) + 1 for counter in counters), 1)
