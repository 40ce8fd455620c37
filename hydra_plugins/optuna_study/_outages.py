"""How long this process could not read the storage, in which time nobody's silence means anything."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A slower operation hung: on a lock of the database, a connection that leads nowhere, a server that is stopped.
HUNG_SECONDS = 1.0


class Outages:
    """Adds up the seconds; of several threads that could not read at the same time, each second counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0
        self._lock = threading.Lock()

    def add(self, begun: float, ended: float) -> None:
        """Count the time between two moments of `time.monotonic()`."""
        with self._lock:
            self.seconds += max(0.0, ended - max(begun, self._until))
            self._until = max(self._until, ended)

    def woke(self, due: float) -> None:
        """Count the time since a thread should have woken, if that is long: its process or machine was stopped."""
        now = time.monotonic()
        if now - due > HUNG_SECONDS:
            self.add(due, now)

    @contextmanager
    def watching(self) -> Iterator["Attempts"]:
        """Count the block's time if its operation failed on the way or hung."""
        attempts, begun = Attempts(), time.monotonic()
        try:
            yield attempts
        finally:
            ended = time.monotonic()
            if attempts.failed or ended - begun > HUNG_SECONDS:
                self.add(begun, ended)


class Attempts:
    """`failed`: how often an operation did."""

    failed = 0
