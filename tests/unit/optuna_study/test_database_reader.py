"""Several processes that read only what changed see what a new process reads from the storage."""

import random
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hydra_plugins.optuna_study._budget import Budget, count_trials, is_paused, next_completion
from hydra_plugins.optuna_study._heartbeat import WorkerId
from hydra_plugins.optuna_study._queue import Claim, TrialQueue
from hydra_plugins.optuna_study._schedulers._promotion import PromotionScheduler
from hydra_plugins.optuna_study._storage import Storage, storage_spec

WORKERS, N_TRIALS = 3, 15


def open_queue(url: str, index: int) -> TrialQueue:
    """A queue with a storage of its own, as in a process of its own."""
    owner = WorkerId("launch", index, "host", 1, f"elsewhere-{index}", "1", heartbeat=600.0)
    budget = Budget(n_trials=N_TRIALS, max_failures=99, max_retries=99)
    return TrialQueue(Storage(storage_spec(url)), "toy", budget, owner, scheduler=PromotionScheduler(1, 2))


class Worker:
    """Takes one step at a time with the real queue."""

    def __init__(self, queue: TrialQueue, chance: random.Random) -> None:
        self.queue = queue
        self.chance = chance
        self.trial_id: int | None = None
        self.steps = 0

    def step(self) -> bool:
        """Do something; false if the study is complete."""
        if self.trial_id is None:
            claimed = self.queue.claim()
            if isinstance(claimed, int):
                self.trial_id = claimed
                self.steps = len(self.queue.storage.get_trial(claimed).intermediate_values)
            return claimed is not Claim.DONE
        storage, trial_id = self.queue.storage, self.trial_id
        what = self.chance.choice(["report", "report", "pause", "pause", "end", "fail", "stop", "forget"])
        if what == "report":
            storage.set_trial_intermediate_value(trial_id, self.steps + 1, self.chance.random())
            self.steps += 1
            return True
        self.trial_id = None
        if what == "forget":  # as by kill -9: another worker finds it
            other = open_queue(self.queue.shared.spec.url(), 9)
            other.release(trial_id, "its worker died", worker_died=True)
        elif what == "stop":
            self.queue.release(trial_id, "stopped")
        elif what == "pause" and self.steps:
            self.queue.paused.pause(trial_id)
        else:
            state = TrialState.FAIL if what == "fail" else TrialState.COMPLETE
            with self.queue.finishing(trial_id):
                storage.set_trial_state_values(trial_id, state, [0.5] if state == TrialState.COMPLETE else None)
        return True


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
@pytest.mark.parametrize("seed", range(3))
def test_what_workers_know_is_what_the_storage_has(tmp_path: Path, kind: str, seed: int) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else f"journal://{tmp_path}/study.log"
    optuna.create_study(study_name="toy", storage=Storage(storage_spec(url)).optuna)
    whole = whole_storage(url)
    study_id, chance = whole.get_study_id_from_name("toy"), random.Random(seed)
    workers = [Worker(open_queue(url, index), chance) for index in range(WORKERS)]
    active, was_paused = list(workers), False
    for _ in range(600):
        worker = chance.choice(active)
        if not worker.step():
            active.remove(worker)
            if not active:
                break
        reader = chance.choice(workers).queue
        assert reader.storage.next_completion(reader.study_id, reader.tally) == next_completion(
            whole.get_all_trials(study_id)
        )
        if not chance.randrange(3):
            known, expected = reader.trials(), whole.get_all_trials(study_id)
            assert known == expected
            assert reader.tally.counts() == count_trials(expected, "launch")
            was_paused = was_paused or any(is_paused(trial) for trial in expected)
    assert not active, "the study did not complete"
    assert was_paused
    counts = count_trials(whole.get_all_trials(study_id))
    assert counts.finished == N_TRIALS
    assert counts.running == counts.waiting == counts.paused == 0


def whole_storage(url: str) -> BaseStorage:
    """Optuna's own storage, which reads all trials each time."""
    if url.startswith("sqlite"):
        return RDBStorage(url)
    return JournalStorage(JournalFileBackend(url.removeprefix("journal://")))


def test_a_write_that_ended_no_trial_does_not_count(tmp_path: Path) -> None:
    """A process that dies between the counter and the state leaves a running trial with a counter."""
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="toy", storage=Storage(storage_spec(url)).optuna)
    dying, other = open_queue(url, 0), open_queue(url, 1)
    trial_id = dying.claim()
    assert isinstance(trial_id, int)
    with pytest.raises(UpdateFinishedTrialError), dying.finishing(trial_id):
        raise UpdateFinishedTrialError
    assert other.storage.next_completion(other.study_id, other.tally) == next_completion(other.trials()) == 2
