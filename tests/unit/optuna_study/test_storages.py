"""Storages that are unreachable, that many processes share, or that have no lock."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import InMemoryStorage

from hydra_plugins.optuna_study import StudyError, study_status
from hydra_plugins.optuna_study._budget import ALIVE, INTERRUPTED, Budget
from hydra_plugins.optuna_study._heartbeat import WorkerId
from hydra_plugins.optuna_study._queue import TrialQueue
from hydra_plugins.optuna_study._storage import Storage, storage_spec
from hydra_plugins.optuna_study._storage_wrappers import (
    LONGEST_PAUSE,
    Outages,
    is_transient,
    outages_of,
    retry_while_unreachable,
    retrying,
)
from hydra_plugins.optuna_study._sweep import StudyMonitor

from .proxy import claim_all, proxy_before
from .recording import calls
from .sweeping import run
from .test_queue import queue


def unreachable() -> sqlalchemy.exc.OperationalError:
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))


def test_an_operation_is_retried_while_the_server_is_unreachable():
    answers = [unreachable(), unreachable(), "reachable again"]

    def operation():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            # Optuna raises it like this.
            raise optuna.exceptions.StorageInternalError("commit failed") from answer
        return answer

    assert retry_while_unreachable(operation, seconds=5) == "reachable again"


def test_retrying_ends():
    def operation():
        raise unreachable()

    with pytest.raises(sqlalchemy.exc.OperationalError):
        retry_while_unreachable(operation, seconds=0.1)


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("y"), optuna.exceptions.UpdateFinishedTrialError(),
              sqlalchemy.exc.OperationalError("", {}, Exception("password authentication failed for user"))]
)  # fmt: skip
def test_an_error_that_is_not_transient_is_raised_at_once(error):
    assert not is_transient(error)


class Flaky:
    """A storage that several workers share, and that can be unreachable for all of them at once."""

    def __init__(self, inner: optuna.storages.BaseStorage) -> None:
        self.inner = inner
        self.unreachable = threading.Event()

    def __getattr__(self, name: str):
        operation = getattr(self.inner, name)

        def call(*arguments, **keywords):
            if self.unreachable.is_set():
                raise unreachable()
            return operation(*arguments, **keywords)

        return call


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only during a sleep."""

    class Clock:
        now = 1000.0

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def worker_of(shared: Flaky, index: int, heartbeat: float = 1.0) -> TrialQueue:
    store = Storage(storage_spec(None))
    store.optuna = retrying(shared, seconds=600)  # type: ignore[arg-type]
    owner = WorkerId("launch", index, "h", 1, f"elsewhere-{index}", "1", heartbeat)
    return TrialQueue(store, "toy", Budget(n_trials=9), owner)


def test_silence_during_an_outage_does_not_count(clock, monkeypatch):
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, busy = worker_of(shared, 0), worker_of(shared, 1)
    trial = busy.claim()
    assert not observer.requeue_stale()
    # The server is unreachable for ten heartbeats, and the busy worker cannot send any.
    answers = iter(range(9))

    def back_after_a_while(seconds: float) -> None:
        clock.now += max(seconds, 3.0)
        if next(answers) == 3:
            shared.unreachable.clear()

    shared.unreachable.set()
    monkeypatch.setattr(time, "sleep", back_after_a_while)
    assert not observer.requeue_stale()
    assert clock.now > 1010.0
    monkeypatch.setattr(time, "sleep", clock.sleep)
    # The busy worker may be in the middle of its longest pause.
    clock.now += LONGEST_PAUSE
    assert not observer.requeue_stale()
    busy.storage.set_trial_system_attr(trial, ALIVE, [1, 0.0])
    assert not observer.requeue_stale()
    assert busy.storage.get_trial(trial).state.name == "RUNNING"
    # A worker that stays silent afterwards is declared dead.
    clock.now += 3.5
    assert observer.requeue_stale()
    assert busy.storage.get_trial(trial).state.name == "FAIL"


@pytest.mark.parametrize("kind", ["hangs", "stopped"])
def test_time_in_which_the_observer_could_not_look_does_not_count_either(clock, kind):
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, busy = worker_of(shared, 0), worker_of(shared, 1)
    busy.claim()
    assert not observer.requeue_stale()
    if kind == "stopped":
        # As by Ctrl-Z, with all workers: a thread that should have woken after half a second wakes after thirty.
        clock.now += 30.0
        outages_of(observer.storage).add_oversleep(clock.now - 29.5)
    else:
        read = shared.inner.get_all_trials

        def slowly(*arguments, **keywords):
            clock.now += 30.0
            return read(*arguments, **keywords)

        shared.inner.get_all_trials = slowly
    assert not observer.requeue_stale()


def test_overlapping_outages_of_two_threads_count_once():
    outages = Outages()
    outages.add(10.0, 20.0)
    outages.add(12.0, 22.0)
    outages.add(11.0, 13.0)
    assert outages.seconds == 12.0


def test_an_attempt_that_ended_in_an_outage_is_requeued_once(clock):
    """The process that ended it waits for the server before requeueing it; others must not requeue it, too."""
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, finder = worker_of(shared, 0), worker_of(shared, 1)
    trial = finder.claim()
    finder.storage.set_trial_system_attr(trial, INTERRUPTED, {"reason": "x", "counted": False, "final": False})
    finder.storage.set_trial_state_values(trial, optuna.trial.TrialState.FAIL)
    assert not observer.requeue_stale()
    outages_of(observer.storage).add(clock.now, clock.now + 60)
    clock.now += 61
    assert not observer.requeue_stale()
    clock.now += 15.5
    assert observer.requeue_stale()


def test_an_unreachable_server_gives_a_one_line_error(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    pytest.importorskip("psycopg2")
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/db cannot be opened") as caught:
        Storage(storage_spec("postgresql://me:s3cr3t@127.0.0.1:1/db"))
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_error_of_the_monitor_is_printed_once_and_raised_if_it_persists(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hydra_plugins.optuna_study._sweep._LOOK_SECONDS", 0.01)
    mine, broken = queue(tmp_path, "a"), threading.Event()
    looked = threading.Semaphore(0)

    def requeue_stale(*_):
        looked.release()
        if broken.is_set():
            raise RuntimeError("requeueing is broken")

    monkeypatch.setattr(mine, "requeue_stale", requeue_stale)
    broken.set()
    with StudyMonitor(mine, ("minimize",), lambda _: None) as monitor:
        for _ in range(3):
            assert looked.acquire(timeout=60)
        broken.clear()
        for _ in range(3):
            assert looked.acquire(timeout=60)
    assert monitor.failure is None
    said = "the command cannot monitor its trials (RuntimeError: requeueing is broken); the workers continue\n"
    assert capsys.readouterr().out == said
    broken.set()
    with pytest.raises(RuntimeError, match="broken"):  # noqa: SIM117, PT012
        with StudyMonitor(mine, ("minimize",), lambda _: None):
            assert looked.acquire(timeout=60)
            assert looked.acquire(timeout=60)
    # It does not hide the error of the block itself.
    with pytest.raises(KeyError):  # noqa: SIM117, PT012
        with StudyMonitor(mine, ("minimize",), lambda _: None):
            assert looked.acquire(timeout=60)
            raise KeyError


def test_a_worker_that_starts_in_an_outage_retries_and_a_command_does_not(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    answers = [unreachable(), unreachable(), InMemoryStorage(), unreachable()]

    def open_it(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Storage, "_open", open_it)
    assert Storage(storage_spec(None), retry_opening=True).optuna.get_all_studies() == []
    with pytest.raises(StudyError, match="cannot be opened"):
        Storage(storage_spec(None))
    assert answers == []


@pytest.mark.integration
def test_the_budget_is_exact_through_a_grpc_proxy(tmp_path):
    pytest.importorskip("grpc")
    url = f"sqlite:///{tmp_path}/behind.db"
    with proxy_before(url) as proxy:
        # First the claiming alone, as quickly as it goes; then real workers.
        claimed = claim_all(proxy, n_trials=24, workers=4)
        run("hydra/launcher=joblib", "hydra.sweeper.n_jobs=4", "hydra.sweeper.n_trials=12",
            f"hydra.sweeper.storage={proxy}")  # fmt: skip
    for name, n_trials in (("shared", 24), ("toy", 12)):
        states = [trial.state.name for trial in optuna.load_study(study_name=name, storage=url).trials]
        assert states.count("COMPLETE") == n_trials
        # One that was created beyond the budget, because there is no lock through a proxy, waits for ever.
        assert set(states) <= {"COMPLETE", "WAITING"}
    assert len(claimed) == 24


@pytest.mark.integration
def test_detached_workers_end_the_study_once(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    recorder = f"{{_target_: tests.unit.optuna_study.recording.Recorder, path: {tmp_path}/calls.txt}}"
    done = run("hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=5",
               "hydra.sweeper.wait=false", f"hydra.sweeper.callbacks=[{recorder}]", "hydra.sweep.dir=out",
               env={"PYTHONPATH": str(Path(__file__).parents[3])})  # fmt: skip
    assert "submitted 2 workers" in done.stdout
    end = time.monotonic() + 120
    while time.monotonic() < end and not calls(tmp_path / "calls.txt", "end"):
        time.sleep(0.2)
    time.sleep(2)  # for a second call, which must not come
    assert calls(tmp_path / "calls.txt", "end") == [["toy", 5, False]]
    assert study_status("sqlite:///study.db", "toy").counts.complete == 5
    assert (tmp_path / "out/optimization_results.yaml").exists()


@pytest.mark.integration
def test_a_mistake_is_one_line_in_a_plain_hydra_app():
    done = run("x=interval(5,1)", check=1)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith("interval's first end must not be above its second")


def test_without_fcntl_as_on_windows_everything_imports_and_studies_are_locked(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "import eyegender.train, eyegender.predict, hydra_plugins.optuna_study\n"
        "from hydra_plugins.optuna_study._storage import _file_lock\n"
        "with _file_lock(Path('study.lock')) as held:\n"
        "    assert held\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
