"""The thread that carries a journal into the store, at the store's pace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.core.file_locks import optional_file_lock
from eyegender.tracking.faults import LIMITS, StoreFaultError, first_line, is_refused, repair_of
from eyegender.tracking.store import RunGoneError

if TYPE_CHECKING:
    from eyegender.tracking.journal import Entry, Journal
    from eyegender.tracking.store import Store

log = logging.getLogger(__name__)

BATCH = 500
TOGETHER = ("metrics", "artifact")
UPLOADS = ("artifact", "model")
ATTEMPTS = 3  # at an upload, while the store answers everything else
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts while the store is away
# What a user must see to where a file system has no locks.
ALONE = "send this run with eyegender.sync only once it has ended, or keep runs on another file system: hydra.run.dir"


class Sender(threading.Thread):
    """Sends entries in order; when the store is away it waits longer and longer, and training never notices."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(name="tracking", daemon=True)
        self.journal, self.store = journal, store
        self.last: Entry | None = None  # what the journal's disk did not take any more
        self.problem: str | None = None  # why nothing can be sent just now
        self.repair: str | None = None  # what somebody must do about it
        self.refused: list[str] = []  # entries that the store does not want, each with the reason
        self.put_off: list[str] = []  # uploads that do not get through
        self.complete = False  # all is in the store
        self._position: int | None = None  # in the journal; the cursor stays before what was put off
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()

    def wake(self) -> None:
        self._wake.set()

    def run(self) -> None:
        try:
            self._run_alone()
        except Exception as error:  # a thread that died in silence would pass for one that has sent all
            self.problem = first_line(error)
            log.exception("tracking: sending has stopped; everything stays in %s", self.journal.path)

    def _run_alone(self) -> None:
        # Held while this thread lives: `eyegender.sync` must not send the same entries beside it.
        while not self._abandon.is_set():
            try:
                with optional_file_lock(self.journal.folder / "tracking.lock", 1, ALONE):
                    self._work()
            except Timeout:
                continue
            return

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._abandon.is_set():
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                sent = self.send_some()
                if not sent and closing:
                    if self.last is not None:
                        self.store.apply(self.last)
                    self.problem, self.complete = None, not self.put_off
                    return
            except Exception as error:
                self._tell(error)
                if closing and self.repair is not None:
                    return  # waiting would not mend it
                self._abandon.wait(pause) if self.repair is None else self._wake.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.problem is not None:
                log.info("tracking: the store is back")
                self.problem = self.repair = None
            pause = FIRST_PAUSE
            if not sent:
                self._wake.wait(timeout=5)

    def _tell(self, error: Exception) -> None:
        """Once, not at each attempt."""
        repair = repair_of(error)
        if self.problem is None or repair != self.repair:
            if repair is None:
                log.warning("tracking: the store is away (%s); training goes on and sends later", first_line(error))
            else:
                log.warning(
                    "tracking: the store takes nothing (%s); training goes on and keeps all on disk; %s",
                    first_line(error),
                    repair,
                )
        self.problem, self.repair = first_line(error), repair

    def send_some(self) -> int:
        """Send the next entries and move the cursor; returns how many."""
        entries = self.journal.unsent(BATCH, self._position)
        if entries and entries[0][1]["op"] != "run" and self.store.run_id is None:
            # An earlier process was killed when it had sent the run's first entry.
            begun = self.journal.current_run()
            if begun is not None:
                self.store.attach(begun)
        position = 0
        while position < len(entries) and not self._abandon.is_set():
            # Metrics that follow each other travel in one request, and files beside each other.
            stop, op = position + 1, entries[position][1]["op"]
            while op in TOGETHER and stop < len(entries) and entries[stop][1]["op"] == op:
                stop += 1
            try:
                self._send([entry for _, entry in entries[position:stop]])
            except RunGoneError:
                self._begin_again()
                return 1
            self._position = entries[stop - 1][0]
            if not self.put_off:
                self.journal.mark_sent(self._position)
            position = stop
        return position

    def _begin_again(self) -> None:
        """The store has lost the run: all that was said of it goes into a new one."""
        self.store.forget()
        self.put_off, self._position = [], None
        self.journal.mark_sent(self.journal.beginning())

    def _send(self, entries: list[Entry]) -> None:
        op = entries[0]["op"]
        try:
            if len(entries) == 1:
                self.store.apply(entries[0])
            elif op == "metrics":
                self.store.apply_metrics(entries)
            else:
                self.store.apply_artifacts(entries)
        except Exception as error:
            refused = is_refused(error)
            if refused and op == "run":  # without it nothing else can be sent
                raise StoreFaultError(
                    f"tracking: the store must take the run, got {first_line(error)}", "correct tracking.experiment"
                ) from error
            if not refused and not (op in UPLOADS and self.store.answers()):
                raise
            if len(entries) > 1:  # one of them is the reason, and the others wait with it
                for entry in entries:
                    self._send([entry])
            elif refused:
                # Waiting would not mend it, and everything behind it would wait as well.
                self.refused.append(f"{op}: {first_line(error)}")
                log.warning("tracking: %s was refused (%s)", op, first_line(error))
            else:
                self._upload_again(entries[0], error)

    def _upload_again(self, entry: Entry, error: Exception) -> None:
        """A store that answers does not take this file: nothing behind it must wait for that for ever."""
        what = f"{entry['op']} {entry['path']}"
        try:
            for attempt in range(1, ATTEMPTS):
                if self._abandon.is_set():
                    break
                self.store.attempt = attempt
                try:
                    self.store.apply(entry)
                except Exception as again:
                    if not self.store.answers():
                        raise
                    error = again
                else:
                    return
        finally:
            self.store.attempt = 0
        self.put_off.append(f"{what} does not get through, tried {ATTEMPTS} times: {first_line(error)}")
        log.warning("tracking: %s; %s", self.put_off[-1], LIMITS)

    def missing(self) -> tuple[str, str | None]:
        """Why not all is in the store, and what must be done before the rest can be sent, where that is known."""
        if self.problem is None and self.put_off:
            return self.put_off[0], LIMITS
        return self.problem or "the store is slow", self.repair

    def close(self, seconds: float) -> bool:
        """Let it send what is left, for at most `seconds`; True when all was sent."""
        self._closing.set()
        self._wake.set()
        self.join(seconds)
        self._abandon.set()
        self._wake.set()
        return not self.is_alive() and self.complete
