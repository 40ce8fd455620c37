"""File locks that the kernel releases when their process ends, and the warning where a file system has none."""

from __future__ import annotations

import errno
import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

log = logging.getLogger("eyegender")

_warned: set[Path] = set()


def lacks_locks(error: OSError) -> bool:
    """Whether the file system has no locks at all; a lock that another process holds does not count."""
    return error.errno in _NO_LOCKS


@contextmanager
def file_lock(
    path: Path, timeout: float = -1, *, wait_message: str = "", check: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold an exclusive lock.

    Args:
        path: the lock's file.
        timeout: seconds to wait for another process; 0 does not wait, -1 waits forever.
        wait_message: logged once if another process holds the lock.
        check: called several times a second while waiting; an exception that it raises ends the wait.

    Raises:
        filelock.Timeout: another process holds the lock.
        OSError: the file system has no locks. filelock's substitute would survive a killed process, so it is not used.
    """
    lock = FileLock(path, fallback_to_soft=False)

    def cancel() -> bool:
        if check is not None:
            check()
        return False

    try:
        lock.acquire(timeout=0)
    except Timeout:
        if timeout == 0:
            raise
        if wait_message:
            log.info("%s", wait_message)
        lock.acquire(timeout=timeout, cancel_check=cancel)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def optional_file_lock(path: Path, timeout: float, advice: str) -> Iterator[bool]:
    """Hold an exclusive lock if the file system has locks; yields whether it does.

    Args:
        path: the lock's file.
        timeout: seconds to wait for another process; 0 does not wait, -1 waits forever.
        advice: what the user must take care of without a lock; logged once for each folder.

    Raises:
        filelock.Timeout: another process holds the lock.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path, timeout))
        except OSError as error:
            if not lacks_locks(error):
                raise
            if path.parent not in _warned:
                _warned.add(path.parent)
                log.warning("file locks do not work in %s (%s); %s", path.parent, error.strerror, advice)
            locked = False
        else:
            locked = True
        yield locked
