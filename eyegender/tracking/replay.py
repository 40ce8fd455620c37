"""Sends the rest of a journal whose run is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.core.errors import UserError
from eyegender.core.file_locks import optional_file_lock
from eyegender.core.secrets import HIDDEN
from eyegender.tracking.faults import first_line, repair_of
from eyegender.tracking.journal import JOURNAL, Journal
from eyegender.tracking.location import DATABASE, artifacts_beside, database_file, database_uri, mlruns
from eyegender.tracking.sender import Sender
from eyegender.tracking.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.tracking.journal import Entry

# A run that has just ended may still be in the request that it gave up waiting for.
_LAST_REQUEST_SECONDS = 5


def pending(folder: Path) -> list[Path]:
    """Output folders at or below `folder` whose journal holds unsent entries, in order of name."""
    folders = [path.parent for path in sorted(folder.rglob(JOURNAL))]
    return [folder for folder in folders if Journal(folder, writes=False).unsent(limit=1)]


def send(folder: Path, uri: str | None) -> tuple[int, str | None]:
    """Send what is left of one run; returns how many entries and the run's id.

    Raises:
        UserError: the run is still going on, its store's address is not known, or the store does not take all of it.
    """
    journal = Journal(folder, writes=False)
    first = journal.current_run()
    if first is None:
        raise UserError(f"{folder}: its run was killed before it said anything; nothing can be sent, remove {JOURNAL}")
    address = uri or _address(folder, first)
    if HIDDEN in address:
        raise UserError(f"{folder}: the store's address {address} needs its password again; add uri=ADDRESS")
    database = database_file(address)
    artifacts = None if database is None else artifacts_beside(database)
    alone = "see that its run has ended"
    try:
        with optional_file_lock(folder / "tracking.lock", _LAST_REQUEST_SECONDS, alone):
            store = Store(address, artifacts, folder)
            sender = Sender(journal, store)
            total = 0
            try:
                store.attach(first)
                while sent := sender.send_some():
                    total += sent
            except Exception as error:
                repair = repair_of(error)
                what = "the store was away" if repair is None else "the store took no more"
                raise UserError(
                    f"{folder}: sent {total} entries, then {what} ({first_line(error)}); {repair or 'try again later'}"
                ) from error
            if sender.put_off:
                reason, repair = sender.missing()
                raise UserError(f"{folder}: sent all but {len(sender.put_off)} entries ({reason}); {repair}")
            return total, store.run_id
    except Timeout as error:
        raise UserError(f"{folder}: its run is still going on and sends by itself; wait for its end") from error


def _address(folder: Path, first: Entry) -> str:
    """Where the run wanted its entries; an embedded store may have been moved since, together with the run or not."""
    uri = str(first["uri"])
    database = database_file(uri)
    if database is None:
        return uri
    beside = folder / first["database"] if "database" in first else database
    for place in (beside, database, mlruns() / DATABASE):
        if place.is_file():
            return database_uri(place.resolve())
    if not database.parent.is_dir():
        raise UserError(f"{folder}: its store {database} is not there any more; add uri=sqlite:///FILE")
    return uri
