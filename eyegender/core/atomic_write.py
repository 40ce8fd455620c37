"""Files and folders that are written completely or not at all: written under a temporary name, synced and renamed."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILDING = ".building-"  # between the name of an unfinished folder and its process


@contextmanager
def atomic_write(path: Path, mode: str = "w", *, sync: bool = True, one_writer: bool = True) -> Iterator[IO[Any]]:
    """A temporary file that gets the name `path` when the block ends.

    If the block raises, the temporary file is removed, and a file that was at `path` before stays as it was.

    Args:
        path: the final name.
        mode: `w` or `wb`.
        sync: wait until the contents are on the disk, so that they survive a power cut.
        one_writer: only one process at a time writes `path`, so temporary files of killed processes are removed.

    Example:
        >>> with atomic_write(folder / "metrics.json") as file:  # doctest: +SKIP
        ...     json.dump(metrics, file)
    """
    if one_writer:
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open(mode) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that gets the name `folder` when the block ends.

    If the block raises, the temporary folder is removed. The caller syncs the files in it, see `write_synced`.
    """
    temporary = folder.with_name(f"{folder.name}{BUILDING}{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def preallocated_file(path: Path, size: int) -> Iterator[int]:
    """The descriptor of a new file of `size` bytes, which is synced at the end.

    The disk space is allocated at once, so a full disk fails before the work and not in the middle of it.
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


def write_at(file: int, data: memoryview, offset: int) -> None:
    """Write all of `data` (contiguous) to the file descriptor, starting at `offset`."""
    view = data.cast("B") if data.format != "B" or data.ndim != 1 else data
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
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
