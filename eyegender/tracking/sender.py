"""The thread that carries a journal into the store, at the store's pace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from eyegender.tracking.journal import Entry, Journal
    from eyegender.tracking.store import Store

log = logging.getLogger(__name__)

BATCH = 500
TOGETHER = ("metrics", "artifact")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts while the store is away


class Sender(threading.Thread):
    """Sends entries in order; when the store is away it waits longer and longer, and training never notices."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(name="tracking", daemon=True)
        self.journal, self.store = journal, store
        self.last: Entry | None = None  # what the journal's disk did not take any more
        self.problem: str | None = None  # why nothing can be sent just now
        self.refused = 0  # entries that the store does not want
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()

    def wake(self) -> None:
        self._wake.set()

    def run(self) -> None:
        # Held while this thread lives: `eyegender.sync` must not send the same entries beside it.
        lock = FileLock(self.journal.folder / "tracking.lock")
        while not self._abandon.is_set():
            try:
                with lock.acquire(timeout=1):
                    self._work()
            except Timeout:
                continue
            return

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._abandon.is_set():
            self._wake.clear()
            try:
                sent = self.send_some()
                if not sent and self._closing.is_set():
                    if self.last is not None:
                        self.store.apply(self.last)
                    self.problem = None
                    return
            except Exception as error:
                if self.problem is None:
                    log.warning("tracking: the store is away (%s); training goes on and sends later", first_line(error))
                self.problem = first_line(error)
                self._abandon.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.problem is not None:
                log.info("tracking: the store is back")
            self.problem, pause = None, FIRST_PAUSE
            if not sent:
                self._wake.wait(timeout=5)

    def send_some(self) -> int:
        """Send the next entries and move the cursor; returns how many."""
        entries = self.journal.unsent(BATCH)
        position = 0
        while position < len(entries) and not self._abandon.is_set():
            # Metrics that follow each other travel in one request, and files beside each other.
            stop, op = position + 1, entries[position][1]["op"]
            while op in TOGETHER and stop < len(entries) and entries[stop][1]["op"] == op:
                stop += 1
            self._send([entry for _, entry in entries[position:stop]])
            self.journal.mark_sent(entries[stop - 1][0])
            position = stop
        return position

    def _send(self, entries: list[Entry]) -> None:
        try:
            if len(entries) == 1:
                self.store.apply(entries[0])
            elif entries[0]["op"] == "metrics":
                self.store.apply_metrics(entries)
            else:
                self.store.apply_artifacts(entries)
        except Exception as error:
            if not is_permanent(error):
                raise
            if len(entries) > 1:  # one of them is refused, and the others with it
                for entry in entries:
                    self._send([entry])
                return
            # Waiting would not mend it, and everything behind it would wait as well.
            self.refused += 1
            log.warning("tracking: %s was refused (%s)", entries[0]["op"], first_line(error))

    def close(self, seconds: float) -> bool:
        """Let it send what is left, for at most `seconds`; True when all was sent."""
        self._closing.set()
        self._wake.set()
        self.join(seconds)
        self._abandon.set()
        self._wake.set()
        return not self.is_alive() and self.problem is None


def is_permanent(error: Exception) -> bool:
    """Whether the store has understood the request and will never take it."""
    if isinstance(error, FileNotFoundError):
        return True  # an artifact that was deleted before it was sent
    return getattr(error, "error_code", None) in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


def first_line(error: BaseException) -> str:
    """What went wrong in one line, without the passwords that drivers like to quote."""
    from eyegender.tracking.secrets import redact

    return redact((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
