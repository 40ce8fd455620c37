"""Signals from the command to its workers on this machine."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from optuna.trial import TrialState

from .._budget import OWNER
from .._heartbeat import Heartbeat, WorkerId, registered_workers
from .._optuna import id_of
from .._queue import TrialQueue

# Looks at the workers that idle ones get to end by themselves after a signal.
_LOOKS_BEFORE_END = 3


class SignalForwarder:
    """Forwards a signal of the command to its workers on this machine, and ends the wait when all have saved.

    It is called again and again, and also reaches workers that start late.
    """

    def __init__(self, queue: TrialQueue, heartbeat: Heartbeat, folder: Path) -> None:
        self.queue = queue
        self.heartbeat = heartbeat
        self.folder = folder
        self._signalled: set[int] = set()
        self._looks_without_busy = 0

    def __call__(self) -> None:
        if self.queue.stop_signal is None:
            return
        launch_id = self.queue.worker_id.launch_id
        workers = [(each.pid, busy) for each, busy in registered_workers(self.folder) if each.launch_id == launch_id]
        for pid in {pid for pid, _ in workers} - self._signalled:
            self._signalled.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._looks_without_busy = 0 if any(busy for _, busy in workers) else self._looks_without_busy + 1
        if self._looks_without_busy == _LOOKS_BEFORE_END:
            self.heartbeat.end_deferral()


def stop_local_workers(queue: TrialQueue, signum: int) -> None:
    """Ask the workers of this launch on this machine to release their trials, and release those of dead ones."""
    deadline, me = time.monotonic() + 10, queue.worker_id
    signalled: set[int] = set()
    while time.monotonic() < deadline:
        running = [trial for trial in queue.trials() if trial.state == TrialState.RUNNING]
        owners = [(id_of(trial), WorkerId.from_stored(trial.system_attrs.get(OWNER))) for trial in running]
        local = [(trial_id, owner) for trial_id, owner in owners if owner is not None and owner.host_id == me.host_id]
        local = [(trial_id, owner) for trial_id, owner in local if owner.launch_id == me.launch_id]
        if not local:
            return
        for trial_id, owner in local:
            if owner.has_exited():
                queue.release(trial_id, f"stopped by {signal.Signals(signum).name}")
            elif owner.pid not in signalled and owner.pid != os.getpid():
                signalled.add(owner.pid)
                os.kill(owner.pid, signal.SIGTERM)
        time.sleep(0.1)
