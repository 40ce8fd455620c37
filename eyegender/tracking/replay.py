"""Sends the rest of a journal whose run is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from eyegender.errors import UserError
from eyegender.tracking.journal import JOURNAL, Journal
from eyegender.tracking.secrets import HIDDEN
from eyegender.tracking.sender import Sender, first_line
from eyegender.tracking.store import Store

if TYPE_CHECKING:
    from pathlib import Path

# A run that has just ended may still be in the request that it gave up waiting for.
_LAST_REQUEST_SECONDS = 5


def pending(folder: Path) -> list[Path]:
    """Output folders at or below `folder` whose journal holds unsent entries, in order of name."""
    folders = [path.parent for path in sorted(folder.rglob(JOURNAL))]
    return [folder for folder in folders if Journal(folder, writes=False).unsent(limit=1)]


def send(folder: Path, uri: str | None) -> tuple[int, str | None]:
    """Send what is left of one run; returns how many entries and the run's id.

    Raises:
        UserError: the run is still going on, its store's address is not known, or the store cannot be reached.
    """
    journal = Journal(folder, writes=False)
    first = journal.current_run()
    if first is None:
        raise UserError(f"{folder}: its run was killed before it said anything; nothing can be sent, remove {JOURNAL}")
    address = uri or str(first["uri"])
    if HIDDEN in address:
        raise UserError(f"{folder}: the store's address {address} needs its password again; add uri=ADDRESS")
    try:
        with FileLock(folder / "tracking.lock", timeout=_LAST_REQUEST_SECONDS):
            store = Store(address, first["artifacts"] if address == first["uri"] else None, folder)
            sender = Sender(journal, store)
            total = 0
            try:
                store.attach(first)
                while sent := sender.send_some():
                    total += sent
            except Exception as error:
                raise UserError(
                    f"{folder}: sent {total} entries, then the store was away ({first_line(error)}); try again later"
                ) from error
            return total, store.run_id
    except Timeout as error:
        raise UserError(f"{folder}: its run is still going on and sends by itself; wait for its end") from error
