"""Folders of the cache that are whole or not there: one builder each, written aside, named when all is on disk."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.core.disk_errors import full_disk, is_full
from eyegender.core.errors import UserError
from eyegender.core.file_locks import lacks_locks, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


@contextmanager
def told_in_one_line(what: str, folder: Path, needed: int) -> Iterator[None]:
    """Turn a full or unwritable disk into a `UserError`.

    Args:
        what: is being written, as the plural subject of a sentence.
        folder: where it is written to.
        needed: bytes.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk(what, folder, needed, " or set EYEGENDER_CACHE to another disk") from error
        if lacks_locks(error):
            raise UserError(
                f"{what} need a file system with file locks, got {error.strerror} in {folder}; set EYEGENDER_CACHE to "
                "a folder on another file system, such as a local disk"
            ) from error
        raise UserError(
            f"{what} must be writable to {folder}, got {error.strerror or error}; set EYEGENDER_CACHE to another folder"
        ) from error


@contextmanager
def only_builder(folder: Path, task: str, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """One builder per entry; the lock is the kernel's and dies with its process.

    Args:
        folder: the entry.
        task: what another process may be doing, for the line that says so.
        while_waiting: called about once a second; what it raises ends the wait.
    """
    lock = new_lock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another process is %s; waiting for it", task)
        while not lock.is_locked:
            if while_waiting is not None:
                while_waiting()
            try:
                lock.acquire(timeout=1)
            except Timeout:
                continue
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Under the lock nobody else builds, so whatever is unfinished belongs to a builder that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(f"{folder.name}.building-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which gets the entry's name unless the block raises; files in it must be synced."""
    aside = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    try:
        aside.mkdir()
        yield aside
        aside.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def reserved_file(path: Path, size: int) -> Iterator[int]:
    """The descriptor of a new file of `size` bytes, synced at the end.

    The space is taken at once, so that a full disk shows before the work and not in the middle of it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file, 0, size)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                    raise
        os.ftruncate(file, size)
        yield file
        os.fsync(file)
    finally:
        os.close(file)


def write_all(file: int, data: memoryview, offset: int) -> None:
    """Every byte of `data` (contiguous), from `offset` on."""
    view = data.cast("B") if data.format != "B" or data.ndim != 1 else data
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
