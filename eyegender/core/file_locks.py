"""Locks that die with their process, and what is said where a file system has none, as some cluster mounts."""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

log = logging.getLogger("eyegender")

_warned: set[Path] = set()


def lacks_locks(error: OSError) -> bool:
    """Whether the file system cannot lock at all; that another process holds the lock is no such error."""
    return error.errno in NO_LOCKS


def new_lock(path: Path) -> FileLock:
    """A lock that raises `OSError` where the file system has none: filelock's substitute outlives a killed process."""
    return FileLock(path, fallback_to_soft=False)


@contextmanager
def held_where_possible(path: Path, timeout: float, instead: str) -> Iterator[bool]:
    """Hold a lock; yields False where the file system has none, which is said once for each folder.

    Args:
        path: of the lock's file.
        timeout: seconds to wait, or -1 for as long as it takes.
        instead: what the user must see to without a lock.

    Raises:
        filelock.Timeout: another process holds it.
    """
    lock = new_lock(path)
    try:
        lock.acquire(timeout=timeout)
    except OSError as error:
        if not lacks_locks(error):
            raise
        if path.parent not in _warned:
            _warned.add(path.parent)
            log.warning("file locks do not work in %s (%s); %s", path.parent, error.strerror, instead)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
