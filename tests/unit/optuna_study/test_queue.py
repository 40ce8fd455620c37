"""The queue: who may claim a trial, and what becomes of the trials of dead workers."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from hydra_plugins.optuna_study._budget import Budget
from hydra_plugins.optuna_study._heartbeat import StalenessMonitor, Stopped, WorkerId
from hydra_plugins.optuna_study._queue import Claim, TrialQueue
from hydra_plugins.optuna_study._storage import Storage, storage_spec


def queue(tmp_path: Path, name: str, n_trials: int = 3, heartbeat: float = 60.0, **rules: int) -> TrialQueue:
    store = Storage(storage_spec(f"sqlite:///{tmp_path}/study.db"))
    optuna.create_study(study_name="toy", storage=store.optuna, load_if_exists=True)
    owner = WorkerId(name, 0, "h", 1, host_id=f"elsewhere-{name}", started="1", heartbeat=heartbeat)
    return TrialQueue(store, "toy", Budget(n_trials=n_trials, max_failures=99, **rules), owner)


def test_two_workers_never_claim_one_trial(tmp_path):
    first, second = queue(tmp_path, "a"), queue(tmp_path, "b")
    claimed = [first.claim(), second.claim(), first.claim()]
    assert sorted(first.storage.get_trial(trial_id).number for trial_id in claimed) == [0, 1, 2]
    assert second.claim() is Claim.WAIT


def test_a_signal_before_a_started_trial_has_its_owner_releases_it_at_once(tmp_path, monkeypatch):
    worker = queue(tmp_path, "a", n_trials=1)
    worker.release(worker.claim(), "stopped")

    def stop(*_):
        raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(worker.storage, "set_trial_system_attr", stop)
        with pytest.raises(Stopped):
            worker.claim()
    assert [trial.state.name for trial in worker.trials()] == ["FAIL", "RUNNING"]
    worker.release_own("stopped by SIGTERM")
    assert [trial.state.name for trial in worker.trials()] == ["FAIL", "FAIL", "WAITING"]


def test_without_a_lock_a_trial_beyond_the_budget_waits_forever(tmp_path, monkeypatch):
    first, second = queue(tmp_path, "a", n_trials=1), queue(tmp_path, "b", n_trials=1)
    # Both look before either creates, as two workers may where there is no lock to hold.
    mine, other = first.start_new([]), second.start_new([])
    assert mine is not None
    assert first.storage.get_trial(mine._trial_id).number == 0
    assert other is None
    assert [trial.state.name for trial in first.trials()] == ["RUNNING", "WAITING"]
    assert second.claim() is Claim.WAIT
    first.storage.set_trial_state_values(mine._trial_id, optuna.trial.TrialState.COMPLETE, [1.0])
    assert second.claim() is Claim.DONE


def test_a_worker_without_heartbeats_is_declared_dead(tmp_path):
    lost, finder = queue(tmp_path, "lost", heartbeat=0.05), queue(tmp_path, "finder")
    trial = lost.storage.get_trial(lost.claim())
    assert not finder.requeue_stale()
    time.sleep(0.2)  # more than three of its heartbeats
    finder.requeue_stale()
    states = [t.state.name for t in finder.trials()]
    assert states == ["FAIL", "WAITING"]
    again = finder.storage.get_trial(finder.claim())
    assert again.system_attrs["retry_history"] == [trial.number]
    assert again.system_attrs["failed_trial"] == trial.number


def test_a_worker_with_heartbeats_is_alive():
    monitor, owner = StalenessMonitor(), WorkerId("l", 0, "h", 1, "elsewhere", "1", heartbeat=0.05)
    for beat in range(6):
        time.sleep(0.05)
        assert not monitor.is_dead(1, owner, beat, 1.0)


def test_a_trial_whose_workers_die_too_often_fails(tmp_path):
    finder = queue(tmp_path, "finder", max_retries=1)
    for attempt in range(2):
        trial = finder.claim()
        assert finder.release(trial, "its worker died", worker_died=True)
        assert not finder.release(trial, "its worker died", worker_died=True), attempt
    assert [t.state.name for t in finder.trials()] == ["FAIL", "FAIL"]
    assert finder.progress().counts.failed_before + finder.progress().counts.failed == 1


def test_only_a_process_of_this_machine_is_known_to_have_exited():
    mine = WorkerId.of_this_process("l", 0, 1.0)
    assert not mine.has_exited()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    gone = replace(mine, pid=child.pid)
    child.wait()
    assert gone.has_exited()
    assert not replace(gone, host_id="elsewhere").has_exited()
