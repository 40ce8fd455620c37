"""Storages that are away, that many processes share, or that know no lock."""

import signal
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
from hydra_plugins.optuna_study._attrs import ALIVE, INTERRUPTED
from hydra_plugins.optuna_study._budget import Rules
from hydra_plugins.optuna_study._console import Follower
from hydra_plugins.optuna_study._ledger import Ledger, Next
from hydra_plugins.optuna_study._outages import Outages
from hydra_plugins.optuna_study._owner import Owner, Watch
from hydra_plugins.optuna_study._patient import LONGEST_PAUSE, again_while_away, is_passing, outages_of, patient
from hydra_plugins.optuna_study._spec import storage_spec
from hydra_plugins.optuna_study._store import Store
from hydra_plugins.optuna_study._vigil import Stopped

from .proxy import claim_all, proxy_before
from .recording import calls
from .sweeping import run


def away() -> sqlalchemy.exc.OperationalError:
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))


def test_an_operation_is_tried_again_while_the_server_is_away():
    answers = [away(), away(), "there again"]

    def operation():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            # As Optuna passes it on.
            raise optuna.exceptions.StorageInternalError("commit failed") from answer
        return answer

    assert again_while_away(operation, seconds=5) == "there again"


def test_patience_ends():
    def operation():
        raise away()

    with pytest.raises(sqlalchemy.exc.OperationalError):
        again_while_away(operation, seconds=0.1)


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("y"), optuna.exceptions.UpdateFinishedTrialError(),
              sqlalchemy.exc.OperationalError("", {}, Exception("password authentication failed for user"))]
)  # fmt: skip
def test_what_waiting_cannot_help_is_raised_at_once(error):
    assert not is_passing(error)


class Flaky:
    """A study's storage that several workers share, and that can be away for all of them at once."""

    def __init__(self, inner: optuna.storages.BaseStorage) -> None:
        self.inner = inner
        self.away = threading.Event()

    def __getattr__(self, name: str):
        operation = getattr(self.inner, name)

        def call(*arguments, **keywords):
            if self.away.is_set():
                raise away()
            return operation(*arguments, **keywords)

        return call


@pytest.fixture
def clock(monkeypatch):
    """Time that only passes where somebody sleeps."""

    class Clock:
        now = 1000.0

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def worker_of(shared: Flaky, index: int, heartbeat: float = 1.0) -> Ledger:
    store = Store(storage_spec(None))
    store.storage = patient(shared, seconds=600)  # type: ignore[arg-type]
    owner = Owner("launch", index, "h", 1, f"elsewhere-{index}", "1", heartbeat)
    return Ledger(store, "toy", Rules(n_trials=9), owner)


def test_an_outage_is_no_time_without_a_sign_of_life(clock, monkeypatch):
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, busy = worker_of(shared, 0), worker_of(shared, 1)
    trial = busy.claim()
    assert not observer.take_over()
    # The server is away for ten heartbeats, in which the busy worker cannot write that it lives.
    answers = iter(range(9))

    def back_after_a_while(seconds: float) -> None:
        clock.now += max(seconds, 3.0)
        if next(answers) == 3:
            shared.away.clear()

    shared.away.set()
    monkeypatch.setattr(time, "sleep", back_after_a_while)
    assert not observer.take_over()
    assert clock.now > 1010.0
    monkeypatch.setattr(time, "sleep", clock.sleep)
    # The busy worker may be in the middle of its longest pause.
    clock.now += LONGEST_PAUSE
    assert not observer.take_over()
    busy.storage.set_trial_system_attr(trial, ALIVE, [1, 0.0])
    assert not observer.take_over()
    assert busy.storage.get_trial(trial).state.name == "RUNNING"
    # Who stays silent after it is found out all the same.
    clock.now += 3.5
    assert observer.take_over()
    assert busy.storage.get_trial(trial).state.name == "FAIL"


@pytest.mark.parametrize("kind", ["hangs", "stopped"])
def test_time_in_which_the_observer_could_not_look_is_none_either(clock, kind):
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, busy = worker_of(shared, 0), worker_of(shared, 1)
    busy.claim()
    assert not observer.take_over()
    if kind == "stopped":
        # As by Ctrl-Z, with all workers: a thread that should have woken after half a second wakes after thirty.
        clock.now += 30.0
        outages_of(observer.storage).woke(clock.now - 29.5)
    else:
        read = shared.inner.get_all_trials

        def slowly(*arguments, **keywords):
            clock.now += 30.0
            return read(*arguments, **keywords)

        shared.inner.get_all_trials = slowly
    assert not observer.take_over()


def test_two_threads_that_cannot_read_lose_the_same_time():
    outages = Outages()
    outages.add(10.0, 20.0)
    outages.add(12.0, 22.0)
    outages.add(11.0, 13.0)
    assert outages.seconds == 12.0


def test_an_attempt_that_ended_in_an_outage_is_queued_once(clock):
    """Its finder waits for the server between ending it and queueing it again; others must leave that to it."""
    shared = Flaky(InMemoryStorage())
    optuna.create_study(study_name="toy", storage=shared.inner)
    observer, finder = worker_of(shared, 0), worker_of(shared, 1)
    trial = finder.claim()
    finder.storage.set_trial_system_attr(trial, INTERRUPTED, {"reason": "x", "counted": False, "final": False})
    finder.storage.set_trial_state_values(trial, optuna.trial.TrialState.FAIL)
    assert not observer.take_over()
    outages_of(observer.storage).add(clock.now, clock.now + 60)
    clock.now += 61
    assert not observer.take_over()
    clock.now += 15.5
    assert observer.take_over()


def ledger(tmp_path: Path, name: str, n_trials: int = 3, heartbeat: float = 60.0, **rules: int) -> Ledger:
    store = Store(storage_spec(f"sqlite:///{tmp_path}/study.db"))
    optuna.create_study(study_name="toy", storage=store.storage, load_if_exists=True)
    owner = Owner(launch=name, worker=0, host="h", pid=1, place=f"elsewhere-{name}", started="1", heartbeat=heartbeat)
    return Ledger(store, "toy", Rules(n_trials=n_trials, max_failures=99, **rules), owner)


def test_two_workers_never_claim_one_trial(tmp_path):
    first, second = ledger(tmp_path, "a"), ledger(tmp_path, "b")
    claimed = [first.claim(), second.claim(), first.claim()]
    assert sorted(first.storage.get_trial(trial_id).number for trial_id in claimed) == [0, 1, 2]
    assert second.claim() is Next.WAIT


def test_a_signal_before_a_started_trial_has_its_owner_gives_it_back_at_once(tmp_path, monkeypatch):
    worker = ledger(tmp_path, "a", n_trials=1)
    worker.interrupt(worker.claim(), "stopped", counted=False)

    def stop(*_):
        raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(worker.storage, "set_trial_system_attr", stop)
        with pytest.raises(Stopped):
            worker.claim()
    assert [trial.state.name for trial in worker.trials()] == ["FAIL", "RUNNING"]
    worker.give_back_mine("stopped by SIGTERM")
    assert [trial.state.name for trial in worker.trials()] == ["FAIL", "FAIL", "WAITING"]


def test_without_a_lock_a_trial_too_many_waits_for_ever(tmp_path, monkeypatch):
    first, second = ledger(tmp_path, "a", n_trials=1), ledger(tmp_path, "b", n_trials=1)
    # Both look before either creates, as two workers may where there is no lock to hold.
    mine, other = first._claim_new([]), second._claim_new([])
    assert mine is not None
    assert first.storage.get_trial(mine._trial_id).number == 0
    assert other is None
    assert [trial.state.name for trial in first.trials()] == ["RUNNING", "WAITING"]
    assert second.claim() is Next.WAIT
    first.storage.set_trial_state_values(mine._trial_id, optuna.trial.TrialState.COMPLETE, [1.0])
    assert second.claim() is Next.DONE


def test_a_silent_worker_is_found_out_by_what_does_not_change(tmp_path):
    lost, finder = ledger(tmp_path, "lost", heartbeat=0.05), ledger(tmp_path, "finder")
    trial = lost.storage.get_trial(lost.claim())
    assert not finder.take_over()
    time.sleep(0.2)  # more than three of its heartbeats
    finder.take_over()
    states = [t.state.name for t in finder.trials()]
    assert states == ["FAIL", "WAITING"]
    again = finder.storage.get_trial(finder.claim())
    assert again.system_attrs["retry_history"] == [trial.number]
    assert again.system_attrs["failed_trial"] == trial.number


def test_a_worker_that_shows_life_is_left_alone():
    watch, owner = Watch(), Owner("l", 0, "h", 1, "elsewhere", "1", heartbeat=0.05)
    for beat in range(6):
        time.sleep(0.05)
        assert not watch.is_dead(1, owner, beat, 1.0)


def test_a_trial_interrupted_too_often_fails(tmp_path):
    finder = ledger(tmp_path, "finder", max_retries=1)
    for attempt in range(2):
        trial = finder.claim()
        assert finder.interrupt(trial, "its worker died", counted=True)
        assert not finder.interrupt(trial, "its worker died", counted=True), attempt
    assert [t.state.name for t in finder.trials()] == ["FAIL", "FAIL"]
    assert finder.standing().counts.failed_before + finder.standing().counts.failed == 1


def test_the_place_of_this_process_is_known():
    mine = Owner.here("l", 0, 1.0)
    assert not mine.is_gone()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    gone = Owner(**{**mine.stored(), "pid": child.pid})
    child.wait()
    assert gone.is_gone()
    assert not Owner(**{**gone.stored(), "place": "elsewhere"}).is_gone()


def test_a_server_that_is_not_there_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    pytest.importorskip("psycopg2")
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/db cannot be opened") as caught:
        Store(storage_spec("postgresql://me:s3cr3t@127.0.0.1:1/db"))
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_keeps_the_command_from_following_is_said_once_and_raised_where_it_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hydra_plugins.optuna_study._console._LOOK_SECONDS", 0.01)
    mine, broken = ledger(tmp_path, "a"), threading.Event()
    looked = threading.Semaphore(0)

    def take_over(*_):
        looked.release()
        if broken.is_set():
            raise RuntimeError("the take-over is broken")

    monkeypatch.setattr(mine, "take_over", take_over)
    broken.set()
    with Follower(mine, ("minimize",), lambda _: None) as follower:
        for _ in range(3):
            assert looked.acquire(timeout=60)
        broken.clear()
        for _ in range(3):
            assert looked.acquire(timeout=60)
    assert follower.failure is None
    said = "trials cannot be followed here (RuntimeError: the take-over is broken); the workers go on\n"
    assert capsys.readouterr().out == said
    broken.set()
    with pytest.raises(RuntimeError, match="broken"):  # noqa: SIM117, PT012
        with Follower(mine, ("minimize",), lambda _: None):
            assert looked.acquire(timeout=60)
            assert looked.acquire(timeout=60)
    # What the body itself ended with is not hidden by it.
    with pytest.raises(KeyError):  # noqa: SIM117, PT012
        with Follower(mine, ("minimize",), lambda _: None):
            assert looked.acquire(timeout=60)
            raise KeyError


def test_a_worker_that_starts_in_an_outage_waits_and_a_command_does_not(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    answers = [away(), away(), InMemoryStorage(), away()]

    def open_it(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Store, "_open", open_it)
    assert Store(storage_spec(None), wait=True).storage.get_all_studies() == []
    with pytest.raises(StudyError, match="cannot be opened"):
        Store(storage_spec(None))
    assert answers == []


@pytest.mark.integration
def test_through_a_grpc_proxy_the_budget_is_exact_too(tmp_path):
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
def test_workers_nobody_waits_for_end_the_study_once(tmp_path):
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
        "from hydra_plugins.optuna_study._store import _file_lock\n"
        "with _file_lock(Path('study.lock')) as held:\n"
        "    assert held\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
