"""Sends a run's journal to its tracking store: from a thread during the run, and later for `eyegender.sync`."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.core.errors import UserError
from eyegender.core.file_locks import optional_file_lock
from eyegender.core.secrets import HIDDEN
from eyegender.tracking.errors import LIMITS, StoreFaultError, first_line, is_refused, repair_of
from eyegender.tracking.journal import JOURNAL, Journal
from eyegender.tracking.location import DATABASE, artifacts_beside, database_file, database_uri, mlruns
from eyegender.tracking.writer import RunGoneError, RunWriter

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.tracking.journal import Entry

log = logging.getLogger(__name__)

BATCH = 500
BATCHED = ("metrics", "artifact")
UPLOADS = ("artifact", "model")
UPLOAD_ATTEMPTS = 3  # while the store answers other requests
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts while the store is unreachable
COLLECT = 0.5  # seconds during which entries collect, so that short epochs do not need a request each
LOCK_FILE = "tracking.lock"
# What the user must do if the file system has no locks.
WITHOUT_LOCKS = (
    "send this run with eyegender.sync only after it has ended, or keep runs on another file system: hydra.run.dir"
)
# A run that has just ended may still wait for its last request, although it no longer needs the answer.
_LAST_REQUEST_SECONDS = 5


class Sender(threading.Thread):
    """Sends entries in order. If the store is unreachable, it retries with growing pauses while training continues.

    Args:
        journal: journal of the run.
        writer: writer of the run.
    """

    def __init__(self, journal: Journal, writer: RunWriter) -> None:
        super().__init__(name="tracking", daemon=True)
        self.journal, self.writer = journal, writer
        self.last: Entry | None = None  # an entry that a full disk could not hold
        self.problem: str | None = None  # why nothing can be sent at the moment
        self.repair: str | None = None  # what the user must do about the problem
        self.refused: list[str] = []  # entries that the store refuses, each with the reason
        self.postponed: list[str] = []  # uploads that fail, each with the reason
        self.complete = False  # whether everything is in the store
        self._position: int | None = None  # in the journal; its cursor stays before postponed uploads
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()

    def wake(self) -> None:
        """Send new entries now."""
        self._wake.set()

    def close(self, seconds: float) -> bool:
        """Send the remaining entries for at most `seconds`; True if everything was sent."""
        self._closing.set()
        self._wake.set()
        self.join(seconds)
        self._abandon.set()
        self._wake.set()
        return not self.is_alive() and self.complete

    def missing(self) -> tuple[str, str | None]:
        """Why the store does not contain everything, and what the user must do first, if known."""
        if self.problem is None and self.postponed:
            return self.postponed[0], LIMITS
        return self.problem or "the store is slow", self.repair

    def run(self) -> None:
        try:
            self._run_locked()
        except Exception as error:  # a thread that ends silently would look as if it had sent everything
            self.problem = first_line(error)
            log.exception("tracking: sending has stopped; everything stays in %s", self.journal.path)

    def send_some(self) -> int:
        """Send the next entries and move the cursor; returns their number."""
        entries = self.journal.unsent(BATCH, self._position)
        if entries and entries[0][1]["op"] != "run" and self.writer.run_id is None:
            # An earlier process was killed after it had sent the run's first entry.
            first = self.journal.current_run()
            if first is not None:
                self.writer.attach(first)
        position = 0
        while position < len(entries) and not self._abandon.is_set():
            # Consecutive metrics are sent in one request, and consecutive files concurrently.
            stop, op = position + 1, entries[position][1]["op"]
            while op in BATCHED and stop < len(entries) and entries[stop][1]["op"] == op:
                stop += 1
            try:
                self._send([entry for _, entry in entries[position:stop]])
            except RunGoneError:
                self._send_again_from_the_start()
                return 1
            self._position = entries[stop - 1][0]
            if not self.postponed:
                self.journal.mark_sent(self._position)
            position = stop
        return position

    def _run_locked(self) -> None:
        # The lock is held while this thread lives, so that `eyegender.sync` does not send the same entries meanwhile.
        while not self._abandon.is_set():
            try:
                with optional_file_lock(self.journal.folder / LOCK_FILE, 1, WITHOUT_LOCKS):
                    self._send_until_closed()
            except Timeout:
                continue
            return

    def _send_until_closed(self) -> None:
        pause = FIRST_PAUSE
        while not self._abandon.is_set():
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                sent = self.send_some()
                if not sent and closing:
                    if self.last is not None:
                        self.writer.apply(self.last)
                    self.problem, self.complete = None, not self.postponed
                    return
            except Exception as error:
                self._report(error)
                if closing and self.repair is not None:
                    return  # waiting would not help
                self._abandon.wait(pause) if self.repair is None else self._wake.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.problem is not None:
                log.info("tracking: the store is reachable again")
                self.problem = self.repair = None
            pause = FIRST_PAUSE
            if not sent:
                self._wake.wait(timeout=5)
            self._closing.wait(COLLECT)

    def _report(self, error: Exception) -> None:
        """Log a problem once, and not at each attempt."""
        repair = repair_of(error)
        if self.problem is None or repair != self.repair:
            if repair is None:
                log.warning(
                    "tracking: the store is unreachable (%s); training continues, and everything is sent later",
                    first_line(error),
                )
            else:
                log.warning(
                    "tracking: the store accepts nothing (%s); training continues, and everything stays on disk; %s",
                    first_line(error),
                    repair,
                )
        self.problem, self.repair = first_line(error), repair

    def _send_again_from_the_start(self) -> None:
        """The run no longer exists in the store: all of its entries are sent to a new run."""
        self.writer.detach()
        self.postponed, self._position = [], None
        self.journal.mark_sent(self.journal.beginning())

    def _send(self, entries: list[Entry]) -> None:
        op = entries[0]["op"]
        try:
            if len(entries) == 1:
                self.writer.apply(entries[0])
            elif op == "metrics":
                self.writer.apply_metrics(entries)
            else:
                self.writer.apply_artifacts(entries)
        except Exception as error:
            refused = is_refused(error)
            if refused and op == "run":  # nothing else can be sent without the run
                raise StoreFaultError(
                    f"tracking: the store must accept the run, got {first_line(error)}", "correct tracking.experiment"
                ) from error
            if not refused and not (op in UPLOADS and self.writer.responds()):
                raise
            if len(entries) > 1:  # find the entry that is the reason
                for entry in entries:
                    self._send([entry])
            elif refused:
                # Waiting would not help, and it would block all later entries.
                self.refused.append(f"{op}: {first_line(error)}")
                log.warning("tracking: %s was refused (%s)", op, first_line(error))
            else:
                self._retry_upload(entries[0], error)

    def _retry_upload(self, entry: Entry, error: Exception) -> None:
        """Retry an upload while the store answers other requests; then postpone it, so that it blocks nothing else."""
        try:
            for attempt in range(1, UPLOAD_ATTEMPTS):
                if self._abandon.is_set():
                    break
                self.writer.attempt = attempt
                try:
                    self.writer.apply(entry)
                except Exception as retry_error:
                    if not self.writer.responds():
                        raise
                    error = retry_error
                else:
                    return
        finally:
            self.writer.attempt = 0
        self.postponed.append(
            f"upload of {entry['op']} {entry['path']} failed {UPLOAD_ATTEMPTS} times: {first_line(error)}"
        )
        log.warning("tracking: %s; %s", self.postponed[-1], LIMITS)


def pending(folder: Path) -> list[Path]:
    """Output folders at or below `folder` whose journal contains unsent entries, sorted by name."""
    folders = [path.parent for path in sorted(folder.rglob(JOURNAL))]
    return [folder for folder in folders if Journal(folder, writes=False).unsent(limit=1)]


def send(folder: Path, uri: str | None) -> tuple[int, str | None]:
    """Send the unsent entries of one run that has ended; returns their number and the run's id.

    Args:
        folder: output folder of the run.
        uri: tracking URI; None uses that of the run.

    Raises:
        UserError: the run has not ended, its tracking URI is unknown, or the store does not accept all entries.
    """
    journal = Journal(folder, writes=False)
    first = journal.current_run()
    if first is None:
        raise UserError(
            f"{folder}: its run was killed before it tracked anything; there is nothing to send, remove {JOURNAL}"
        )
    address = uri or _stored_uri(folder, first)
    if HIDDEN in address:
        raise UserError(f"{folder}: the store's address {address} needs its password again; add uri=ADDRESS")
    database = database_file(address)
    artifacts = None if database is None else artifacts_beside(database)
    try:
        with optional_file_lock(folder / LOCK_FILE, _LAST_REQUEST_SECONDS, "see that its run has ended"):
            writer = RunWriter(address, artifacts, folder)
            sender = Sender(journal, writer)
            total = 0
            try:
                writer.attach(first)
                while sent := sender.send_some():
                    total += sent
            except Exception as error:
                repair = repair_of(error)
                what = "the store was unreachable" if repair is None else "the store accepted no more"
                raise UserError(
                    f"{folder}: sent {total} entries, then {what} ({first_line(error)}); {repair or 'try again later'}"
                ) from error
            if sender.postponed:
                reason, repair = sender.missing()
                raise UserError(f"{folder}: sent all but {len(sender.postponed)} entries ({reason}); {repair}")
            return total, writer.run_id
    except Timeout as error:
        raise UserError(
            f"{folder}: its run has not ended and sends its data itself; wait until it has ended"
        ) from error


def _stored_uri(folder: Path, first: Entry) -> str:
    """The tracking URI of the run; a local store is also found if it was moved since, with the run or without it."""
    uri = str(first["uri"])
    database = database_file(uri)
    if database is None:
        return uri
    moved_with_run = folder / first["database"] if "database" in first else database
    for candidate in (moved_with_run, database, mlruns() / DATABASE):
        if candidate.is_file():
            return database_uri(candidate.resolve())
    if not database.parent.is_dir():
        raise UserError(f"{folder}: its store {database} no longer exists; add uri=sqlite:///FILE")
    return uri
