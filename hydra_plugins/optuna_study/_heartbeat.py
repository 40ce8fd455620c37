"""How a worker shows that it is alive, how others notice that it is not, and how it hears signals."""

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage

from ._budget import ALIVE
from ._storage_wrappers import LONGEST_PAUSE, Outages, outages_of

_HANGUP = getattr(signal, "SIGHUP", None)  # from a terminal that closes; Windows has none
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *([_HANGUP] if _HANGUP else []))
_IDLE, _BUSY = ".idle.json", ".busy.json"


class Stopped(BaseException):
    """A signal asked this process to stop. Not an Exception, so that no task handles it as an error of its own."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Heartbeat:
    """A thread that shows, every `interval` seconds, that the worker of the current trial is alive.

    It also handles signals. A signal ends the task at once by raising Stopped in the main thread, unless the task
    promised to check `stop_requested` itself. A second signal, or the end of the promised time, ends it anyway.

    Args:
        storage: storage of the study, or None if there is no trial to send heartbeats for.
        interval: seconds between two heartbeats.
        enabled: false if no other process could see heartbeats, as with a study in memory.
        on_signal: called with the signal number first of all; it runs inside the signal handler.
        forwarded: whether the command forwards its signals as SIGTERM. Ctrl-C in a terminal then arrives twice, and
            only a signal of a kind that came before counts as the second one.
    """

    def __init__(
        self,
        storage: BaseStorage | None,
        interval: float,
        enabled: bool = True,
        on_signal: Callable[[int], None] | None = None,
        forwarded: bool = False,
    ) -> None:
        self.storage = storage
        self.interval = interval
        self.on_signal = on_signal
        # Whether the storage refused a write, because another worker has declared this one dead.
        self.lost = False
        self.stop_requested = False
        self.signum: int | None = None
        self._enabled = enabled
        self._outages = Outages() if storage is None else outages_of(storage)
        self._forwarded = forwarded
        self._received: set[int] = set()
        self._overdue = False
        self._trial_id: int | None = None
        self._callback: Callable[[int], None] | None = None
        self._count = 0
        self._deferral: float | None = None
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optuna-study-heartbeat", daemon=True)
        self._main = threading.main_thread()

    @contextmanager
    def running(self) -> "Iterator[Heartbeat]":
        """Send heartbeats and handle signals while the block runs; then restore the former signal handlers."""
        former: dict[int, Any] = {}
        if threading.current_thread() is self._main:
            for number in _SIGNALS:
                if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
                    former[number] = signal.signal(number, self._handle_signal)
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._wake.set()
            self._thread.join(timeout=10)
            for signum, handler in former.items():
                signal.signal(signum, handler)

    @contextmanager
    def for_trial(self, trial_id: int) -> Iterator[None]:
        """Send heartbeats for this trial while the block runs."""
        self.lost = False
        self._deferral = self._deadline = None
        self._trial_id = trial_id
        try:
            yield
        finally:
            self._trial_id = None
            self._deferral = self._deadline = None

    def call(self, callback: Callable[[int], None] | None) -> None:
        """Also call this with the number of each heartbeat; None ends it."""
        self._callback = callback

    def defer_stop(self, seconds: float | None) -> None:
        """From now on, let a first signal only set `stop_requested`, for at most this many seconds; None ends this."""
        self._deferral = seconds

    def end_deferral(self) -> None:
        """After a deferred signal, stop the main thread now. Any thread may call this."""
        if self.signum is not None and self._deferral is not None:
            self._overdue = True
            signal.pthread_kill(self._main.ident or 0, signal.SIGTERM)

    def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds.

        Raises:
            Stopped: a signal arrived.
        """
        time.sleep(seconds)
        self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)

    def _handle_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self.on_signal is not None:
            self.on_signal(signum)
        again = signum in self._received if self._forwarded else bool(self._received)
        first = not self._received
        self._received.add(signum)
        self.stop_requested = True
        if self._overdue or again or (first and self._deferral is None):
            self.signum = signum if self.signum is None else self.signum
            raise Stopped(self.signum)
        if first and self._deferral is not None:
            self.signum = signum
            self._deadline = time.monotonic() + self._deferral
            self._wake.set()

    def _run(self) -> None:
        due = time.monotonic() + self.interval
        while not self._ended.is_set():
            until = due if self._deadline is None else min(due, self._deadline)
            self._wake.wait(timeout=max(0.0, until - time.monotonic()))
            self._wake.clear()
            self._outages.add_oversleep(until)
            if self._ended.is_set():
                return
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._deadline = None
                # The task did not keep its promise; only its own thread can end it.
                self.end_deferral()
            if time.monotonic() >= due:
                due = time.monotonic() + self.interval
                self._beat()

    def _beat(self) -> None:
        trial_id = self._trial_id
        self._count += 1
        try:
            if trial_id is not None and self._enabled and self.storage is not None:
                self.storage.set_trial_system_attr(trial_id, ALIVE, [self._count, round(time.time(), 1)])
            if self._callback is not None:
                self._callback(self._count)
        except UpdateFinishedTrialError:
            self.lost = self.lost or trial_id == self._trial_id
        except Exception:  # noqa: S110 - the storage has retried already, and the trial must not end for this
            pass


@dataclass(frozen=True)
class WorkerId:
    """Identifies the process of a worker; the command that starts workers has index -1.

    Args:
        launch_id: random text that identifies the start of the command.
        worker: index of the worker over the whole life of the study.
        host: name of the machine.
        pid: process id.
        host_id: host, boot and process namespace, within which process ids mean something.
        started: start time of the process as the kernel counts it, because process ids are reused.
        heartbeat: seconds between two heartbeats.
    """

    launch_id: str
    worker: int
    host: str
    pid: int
    host_id: str
    started: str
    heartbeat: float

    @classmethod
    def of_this_process(cls, launch_id: str, worker: int, heartbeat: float) -> "WorkerId":
        pid = os.getpid()
        return cls(launch_id, worker, platform.node(), pid, _host_id(), _start_time(pid) or "", heartbeat)

    @classmethod
    def from_stored(cls, data: Any) -> "WorkerId | None":
        """What `to_stored` wrote, or None if it is nothing of the kind."""
        try:
            return cls(*(data[name] for name in _STORED_NAMES))
        except (TypeError, KeyError):
            return None

    def to_stored(self) -> dict[str, Any]:
        """Plain data under the names that existing studies use."""
        return {name: getattr(self, field) for name, field in _STORED_NAMES.items()}

    @contextmanager
    def registered(self, folder: Path) -> Iterator[None]:
        """Let the command on this machine find the process, so that it can stop it even while it runs no trial."""
        path = folder / f"{self.worker}{_IDLE}"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_stored()), encoding="utf-8")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def busy(self, folder: Path) -> Iterator[None]:
        """Mark a registered process as busy: it may have a checkpoint to write before it is stopped."""
        idle, busy = folder / f"{self.worker}{_IDLE}", folder / f"{self.worker}{_BUSY}"
        with suppress(OSError):  # if the folder is deleted, only the checkpoint on a signal is lost
            idle.rename(busy)
        try:
            yield
        finally:
            with suppress(OSError):
                busy.rename(idle)

    def has_exited(self) -> bool:
        """Whether the process has certainly ended; always false for a process on another machine."""
        return self.host_id == _host_id() and bool(self.started) and _start_time(self.pid) != self.started


# The names of the fields in studies, which never change.
_STORED_NAMES = {
    "launch": "launch_id",
    "worker": "worker",
    "host": "host",
    "pid": "pid",
    "place": "host_id",
    "started": "started",
    "heartbeat": "heartbeat",
}


def registered_workers(folder: Path) -> list[tuple[WorkerId, bool]]:
    """The registered processes that run on this machine, and whether each one is busy."""
    found = []
    for path in folder.glob("*.json"):
        try:
            worker_id = WorkerId.from_stored(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # it is being written or renamed
            continue
        if worker_id is not None and worker_id.host_id == _host_id() and not worker_id.has_exited():
            found.append((worker_id, path.name.endswith(_BUSY)))
    return found


@lru_cache(maxsize=1)
def _host_id() -> str:
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            source = Path(path)
            parts.append(str(source.readlink()) if source.is_symlink() else source.read_text().strip())
        except OSError:
            # Two containers with the same name must not be mistaken for one machine.
            parts.append(f"unknown-{os.getpid()}")
    return "/".join(parts)


def _start_time(pid: int) -> str | None:
    """The kernel's start time of a running process; None if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


class StalenessMonitor:
    """Decides which workers are dead: those whose heartbeat does not change. It never compares two clocks.

    Args:
        outages: time in which this process could not look, which does not count.
        missed_heartbeats: number of heartbeats without a change after which a worker is declared dead.
    """

    def __init__(self, outages: Outages | None = None, missed_heartbeats: float = 3.0) -> None:
        self.outages = outages or Outages()
        self.missed_heartbeats = missed_heartbeats
        # For each key: its last state, when it was first seen, and the total outage at that time.
        self._seen: dict[object, tuple[object, float, float]] = {}

    def seconds_unchanged(self, key: object, state: object) -> float:
        """Seconds since this state was first seen under this key, without those of outages.

        After an outage, other workers get the longest pause between two attempts as extra time.
        """
        now, outage = time.monotonic(), self.outages.seconds
        last = self._seen.get(key)
        if last is None or last[0] != state:
            self._seen[key] = (state, now, outage)
            return 0.0
        outage_since = outage - last[2]
        return max(0.0, now - last[1] - outage_since - (LONGEST_PAUSE if outage_since > 0 else 0.0))

    def is_dead(self, key: object, worker_id: WorkerId | None, state: object, heartbeat: float) -> bool:
        """Whether a worker is dead.

        Args:
            key: what the worker holds.
            worker_id: None if the process died before it could store its id.
            state: what each of its heartbeats changes.
            heartbeat: seconds between two heartbeats, for a process without a stored id.
        """
        silent = self.seconds_unchanged(key, state)
        if worker_id is not None and worker_id.has_exited():
            return True
        return silent > self.missed_heartbeats * (worker_id.heartbeat if worker_id else heartbeat)
