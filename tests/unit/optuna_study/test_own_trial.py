"""A worker's own trial, read from memory: always what the storage would have said."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._own_trial import OWN_TRIAL
from hydra_plugins.optuna_study._spec import storage_spec
from hydra_plugins.optuna_study._store import Store

from .test_storages import ledger


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """All of a trial but the moment it was started, which is noted twice."""
    kept = {name: value for name, value in vars(trial).items() if name != "_datetime_start"}
    return {**kept, "started": trial.datetime_start is not None}


@pytest.fixture(params=["sqlite", "journal", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    urls = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"journal://{tmp_path}/study.log", "memory": None}
    return Store(storage_spec(urls[request.param])).storage


def test_what_is_written_is_read_as_the_storage_has_it(storage):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    trial_id = storage.create_new_trial(study_id)
    own = OWN_TRIAL(storage)
    own.adopt(storage.get_trial(trial_id))
    own.set_trial_param(trial_id, "lr", 0.25, FloatDistribution(1e-3, 1.0, log=True))
    own.set_trial_param(trial_id, "depth", 3.0, IntDistribution(0, 5))
    own.set_trial_param(trial_id, "kind", 1, CategoricalDistribution(("a", "b")))
    own.set_trial_user_attr(trial_id, "note", {"a": [1, 2]})
    own.set_trial_system_attr(trial_id, "rung", 2)
    own.set_trial_intermediate_value(trial_id, 4, 0.5)
    assert facts(own.get_trial(trial_id)) == facts(storage.get_trial(trial_id))
    assert own.get_trial_params(trial_id) == {"lr": 0.25, "depth": 3, "kind": "b"}
    assert own.get_trial_system_attrs(trial_id) == {"rung": 2}
    own.get_trial(trial_id).params["lr"] = "spoilt"  # a copy
    assert own.get_trial_params(trial_id)["lr"] == 0.25
    own.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.5])
    assert own.get_trial(trial_id).values == [1.5]
    assert own.get_trial(trial_id).datetime_complete == storage.get_trial(trial_id).datetime_complete


def test_reading_it_asks_the_storage_nothing(storage, monkeypatch):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    mine, other = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    own = OWN_TRIAL(storage)
    own.adopt(storage.get_trial(mine))
    asked: list[int] = []
    get_trial = storage.get_trial
    monkeypatch.setattr(storage, "get_trial", lambda trial_id: asked.append(trial_id) or get_trial(trial_id))
    assert own.get_trial(mine).number == 0
    assert own.get_trial_user_attrs(mine) == {}
    assert asked == []
    assert own.get_trial(other).number == 1
    assert asked == [other]


def test_a_trial_that_was_taken_over_refuses_every_write(storage):
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "toy")
    trial_id = storage.create_new_trial(study_id)
    own = OWN_TRIAL(storage)
    own.adopt(storage.get_trial(trial_id))
    storage.set_trial_state_values(trial_id, TrialState.FAIL)  # by another worker, which took this one for dead
    for write in (
        lambda: own.set_trial_param(trial_id, "x", 1.0, FloatDistribution(0, 1)),
        lambda: own.set_trial_user_attr(trial_id, "note", 1),
        lambda: own.set_trial_system_attr(trial_id, "rung", 1),
        lambda: own.set_trial_intermediate_value(trial_id, 0, 1.0),
        lambda: own.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0]),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            write()
    assert own.get_trial(trial_id).state == TrialState.FAIL
    assert own.get_trial(trial_id).params == {}


def test_a_claimed_trial_is_known_as_the_storage_has_it(tmp_path):
    mine = ledger(tmp_path, "a", n_trials=3)
    optuna.load_study(study_name="toy", storage=mine.storage).enqueue_trial({"x": 1.0}, user_attrs={"why": "a guess"})
    for number in range(3):  # the first from the queue
        trial_id = mine.claim()
        assert mine.claimed is not None
        assert facts(mine.claimed) == facts(mine.storage.get_trial(trial_id))
        assert mine.claimed.number == number
    assert mine.claimed.user_attrs == {}


def test_a_worker_that_slept_while_it_held_the_lock_starts_nothing_beyond_the_budget(tmp_path):
    slept, awake = ledger(tmp_path, "a", n_trials=1), ledger(tmp_path, "b", n_trials=1)
    seen = slept.trials()
    assert isinstance(awake.claim(), int)  # without the lock, which the other one was given and still believes to hold
    assert slept._claim_new(seen) is None
    assert [trial.state.name for trial in slept.trials()] == ["RUNNING", "WAITING"]
