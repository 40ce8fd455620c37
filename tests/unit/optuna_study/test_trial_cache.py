"""The cache of a worker's own trial always equals the storage."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._storage import Storage, storage_spec
from hydra_plugins.optuna_study._storage_wrappers import TrialCache

from .test_storages import queue


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """All of a trial except the time of its start, which is stored twice."""
    shown = {name: value for name, value in vars(trial).items() if name != "_datetime_start"}
    return {**shown, "started": trial.datetime_start is not None}


@pytest.fixture(params=["sqlite", "journal", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    urls = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"journal://{tmp_path}/study.log", "memory": None}
    return Storage(storage_spec(urls[request.param])).optuna


def test_what_is_written_is_read_as_in_the_storage(storage):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    trial_id = storage.create_new_trial(study_id)
    cache = TrialCache(storage)
    cache.cache(storage.get_trial(trial_id))
    cache.set_trial_param(trial_id, "lr", 0.25, FloatDistribution(1e-3, 1.0, log=True))
    cache.set_trial_param(trial_id, "depth", 3.0, IntDistribution(0, 5))
    cache.set_trial_param(trial_id, "kind", 1, CategoricalDistribution(("a", "b")))
    cache.set_trial_user_attr(trial_id, "note", {"a": [1, 2]})
    cache.set_trial_system_attr(trial_id, "rung", 2)
    cache.set_trial_intermediate_value(trial_id, 4, 0.5)
    assert facts(cache.get_trial(trial_id)) == facts(storage.get_trial(trial_id))
    assert cache.get_trial_params(trial_id) == {"lr": 0.25, "depth": 3, "kind": "b"}
    assert cache.get_trial_system_attrs(trial_id) == {"rung": 2}
    cache.get_trial(trial_id).params["lr"] = "spoilt"  # a copy
    assert cache.get_trial_params(trial_id)["lr"] == 0.25
    cache.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.5])
    assert cache.get_trial(trial_id).values == [1.5]
    assert cache.get_trial(trial_id).datetime_complete == storage.get_trial(trial_id).datetime_complete


def test_reading_it_does_not_access_the_storage(storage, monkeypatch):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    mine, other = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    cache = TrialCache(storage)
    cache.cache(storage.get_trial(mine))
    asked: list[int] = []
    get_trial = storage.get_trial
    monkeypatch.setattr(storage, "get_trial", lambda trial_id: asked.append(trial_id) or get_trial(trial_id))
    assert cache.get_trial(mine).number == 0
    assert cache.get_trial_user_attrs(mine) == {}
    assert asked == []
    assert cache.get_trial(other).number == 1
    assert asked == [other]


def test_a_requeued_trial_refuses_every_write(storage):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    trial_id = storage.create_new_trial(study_id)
    cache = TrialCache(storage)
    cache.cache(storage.get_trial(trial_id))
    storage.set_trial_state_values(trial_id, TrialState.FAIL)  # by another worker, which declared this one dead
    for write in (
        lambda: cache.set_trial_param(trial_id, "x", 1.0, FloatDistribution(0, 1)),
        lambda: cache.set_trial_user_attr(trial_id, "note", 1),
        lambda: cache.set_trial_system_attr(trial_id, "rung", 1),
        lambda: cache.set_trial_intermediate_value(trial_id, 0, 1.0),
        lambda: cache.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0]),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            write()
    assert cache.get_trial(trial_id).state == TrialState.FAIL
    assert cache.get_trial(trial_id).params == {}


def test_a_claimed_trial_equals_the_stored_one(tmp_path):
    mine = queue(tmp_path, "a", n_trials=3)
    optuna.load_study(study_name="toy", storage=mine.storage).enqueue_trial({"x": 1.0}, user_attrs={"why": "a guess"})
    for number in range(3):  # the first from the queue
        trial_id = mine.claim()
        assert mine.claimed is not None
        assert facts(mine.claimed) == facts(mine.storage.get_trial(trial_id))
        assert mine.claimed.number == number
    assert mine.claimed.user_attrs == {}


def test_a_worker_that_slept_while_it_held_the_lock_starts_nothing_beyond_the_budget(tmp_path):
    slept, awake = queue(tmp_path, "a", n_trials=1), queue(tmp_path, "b", n_trials=1)
    seen = slept.trials()
    assert isinstance(awake.claim(), int)  # without the lock, which the other one believes to hold
    assert slept.start_new(seen) is None
    assert [trial.state.name for trial in slept.trials()] == ["RUNNING", "WAITING"]
