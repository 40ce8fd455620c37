"""A worker's signs of life, and its ear for signals."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage

from ._attrs import ALIVE
from ._outages import Outages
from ._patient import outages_of

_HANGUP = getattr(signal, "SIGHUP", None)  # of a terminal that closes; Windows has none
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *([_HANGUP] if _HANGUP else []))


class Stopped(BaseException):
    """A signal asked this process to stop. Not an Exception, so that no task takes it for a failure of its own."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Vigil:
    """A thread that shows, every `heartbeat` seconds, that the current trial's worker lives.

    A signal ends the task at once by raising Stopped in the main thread, unless the task promised to look at
    `asked_to_stop` itself; a second signal, or the end of the time promised, ends it all the same.

    Args:
    storage: None where there is no trial to show signs of life for.
    beats: false where nobody could look (a study in memory).
    on_signal: called with the signal before anything else ends; it runs inside the handler, so it may only note.
    forwarded: the command forwards its signal as SIGTERM, and Ctrl-C in a terminal reaches both: a second signal is
        then only one that came before.
    """

    def __init__(
        self,
        storage: BaseStorage | None,
        heartbeat: float,
        beats: bool = True,
        on_signal: Callable[[int], None] | None = None,
        forwarded: bool = False,
    ) -> None:
        self.storage = storage
        self.heartbeat = heartbeat
        self.lost = False
        self.asked_to_stop = False
        self.signum: int | None = None
        self._beats = beats
        self._outages = Outages() if storage is None else outages_of(storage)
        self._forwarded = forwarded
        self._received: set[int] = set()
        self._overdue = False
        self.on_signal = on_signal
        self._trial_id: int | None = None
        self._extra: Callable[[int], None] | None = None
        self._count = 0
        self._deferred: float | None = None
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optuna-study-vigil", daemon=True)
        self._main = threading.main_thread()

    @contextmanager
    def kept(self) -> Iterator["Vigil"]:
        """Keep it while the block runs, with the signals' former handlers back at its end."""
        former: dict[int, Any] = {}
        if threading.current_thread() is self._main:
            for number in _SIGNALS:
                if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                    former[number] = signal.signal(number, self._on_signal)
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
    def over(self, trial_id: int) -> Iterator[None]:
        """Show signs of life for this trial while the block runs."""
        self.lost = False
        self._deferred = self._deadline = None
        self._trial_id = trial_id
        try:
            yield
        finally:
            self._trial_id = None
            self._deferred = self._deadline = None

    def beat_for(self, beat: Callable[[int], None] | None) -> None:
        """Show another sign of life, by calling this with the beat's number; None ends it."""
        self._extra = beat

    def defer(self, seconds: float | None) -> None:
        """From now on a first signal only sets `asked_to_stop`, for at most so many seconds; None: no longer so."""
        self._deferred = seconds

    def end_deferral(self) -> None:
        """End what was promised time after a signal, from another thread."""
        if self.signum is not None and self._deferred is not None:
            self._overdue = True
            signal.pthread_kill(self._main.ident or 0, signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Sleep, but not through a signal.

        Raises:
            Stopped: a signal came.
        """
        time.sleep(seconds)
        self.check()

    def check(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self.on_signal is not None:
            self.on_signal(signum)
        again = signum in self._received if self._forwarded else bool(self._received)
        first = not self._received
        self._received.add(signum)
        self.asked_to_stop = True
        if self._overdue or again or (first and self._deferred is None):
            self.signum = signum if self.signum is None else self.signum
            raise Stopped(self.signum)
        if first and self._deferred is not None:
            self.signum = signum
            self._deadline = time.monotonic() + self._deferred
            self._wake.set()

    def _run(self) -> None:
        due = time.monotonic() + self.heartbeat
        while not self._ended.is_set():
            until = due if self._deadline is None else min(due, self._deadline)
            self._wake.wait(timeout=max(0.0, until - time.monotonic()))
            self._wake.clear()
            self._outages.woke(until)
            if self._ended.is_set():
                return
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._deadline = None
                # The task broke its promise; its own thread must be the one to stop.
                self.end_deferral()
            if time.monotonic() >= due:
                due = time.monotonic() + self.heartbeat
                self._beat()

    def _beat(self) -> None:
        trial_id = self._trial_id
        self._count += 1
        try:
            if trial_id is not None and self._beats and self.storage is not None:
                self.storage.set_trial_system_attr(trial_id, ALIVE, [self._count, round(time.time(), 1)])
            if self._extra is not None:
                self._extra(self._count)
        except UpdateFinishedTrialError:
            self.lost = self.lost or trial_id == self._trial_id
        except Exception:  # noqa: S110 - the storage was patient already; the trial itself must not end for this
            pass
