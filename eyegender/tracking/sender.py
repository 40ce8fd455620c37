"""The thread that carries a journal into the store, at the store's pace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eyegender.tracking.journal import Journal
    from eyegender.tracking.store import Store

log = logging.getLogger(__name__)

BATCH = 500
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts while the store is away


class Sender(threading.Thread):
    """Sends entries in order; when the store is away it waits longer and longer, and training never notices."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(name="tracking", daemon=True)
        self.journal, self.store = journal, store
        self.problem: str | None = None  # why nothing can be sent just now
        self.refused = 0  # entries that the store does not want
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()

    def wake(self) -> None:
        self._wake.set()

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._abandon.is_set():
            self._wake.clear()
            try:
                sent = self.send_some()
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
                if self._closing.is_set():
                    return
                self._wake.wait(timeout=5)

    def send_some(self) -> int:
        """Send the next entries and move the cursor; returns how many."""
        entries = self.journal.unsent(BATCH)
        position = 0
        while position < len(entries):
            # Metrics that follow each other travel in one request.
            stop = position
            while stop < len(entries) and entries[stop][1]["op"] == "metrics":
                stop += 1
            try:
                if stop > position:
                    self.store.apply_metrics([entry for _, entry in entries[position:stop]])
                else:
                    stop = position + 1
                    self.store.apply(entries[position][1])
            except Exception as error:
                if not is_permanent(error):
                    raise
                # Waiting would not mend it, and everything behind it would wait as well.
                self.refused += 1
                log.warning("tracking: %s was refused (%s)", entries[position][1]["op"], first_line(error))
            self.journal.mark_sent(entries[stop - 1][0])
            position = stop
        return len(entries)

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


def first_line(error: Exception) -> str:
    """What went wrong in one line, without the passwords that drivers like to quote."""
    from eyegender.tracking.secrets import redact

    return redact((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
