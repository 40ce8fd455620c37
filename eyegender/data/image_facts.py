"""Content hash and size of each image file, cached by what `stat` returns, so that each file is read once."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.cache import cache_folder
from eyegender.core.progress import show_progress
from eyegender.data.decode import read_header, read_image_bytes
from eyegender.data.readers import UnreadableImageError
from eyegender.data.text_columns import TextColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_Stamp = tuple[int, int, int]

# A file that changed just before it was hashed could change again within the granularity of its modification time.
_SETTLED_NS = 2_000_000_000

_MANY = 2000  # files that are looked up in one pass over the table; fewer are looked up one by one
_INT64 = (1 << 63) - 1  # a few file systems have larger numbers of inodes
_TASK = 32  # files per task of a thread
_LONG = 0.0002  # seconds per file
_HEX = re.compile("[0-9a-f]{64}")
_FIND_ONE = "SELECT size, mtime_ns, inode, sha256, width, height FROM pictures WHERE path = ?"
_FIND_BETWEEN = (
    "SELECT path, size, mtime_ns, inode, sha256, width, height FROM pictures WHERE path BETWEEN ? AND ? ORDER BY path"
)
_CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS pictures (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
    " inode INTEGER, sha256 TEXT, width INTEGER, height INTEGER) WITHOUT ROWID"
)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about an image file.

    Args:
        sha256: hex hash of the bytes, or of the names of the folder and the file if it cannot be read.
        width: width in pixels, 0 if the header is unreadable.
        height: height in pixels, 0 if the header is unreadable.
        error: why the file cannot be read, empty if it can.
    """

    sha256: str
    width: int
    height: int
    error: str = ""


@dataclass(frozen=True)
class FactsTable:
    """The facts of N files as columns.

    Args:
        sha256: `ImageFacts.sha256` of each file.
        sizes: int32 of shape (N, 2), width and height.
        errors: reasons by position.
    """

    sha256: TextColumn
    sizes: NDArray[np.int32]
    errors: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.sha256)

    def __getitem__(self, i: int) -> ImageFacts:
        width, height = self.sizes[i].tolist()
        return ImageFacts(self.sha256[i], width, height, self.errors.get(i, ""))


def image_facts(paths: Sequence[Path], cache: str | Path | None = None) -> list[ImageFacts]:
    """The facts of each file, in order, as `read_facts`."""
    table = read_facts([os.fspath(path.absolute()) for path in paths], cache)
    return [table[i] for i in range(len(table))]


def read_facts(paths: Sequence[str], cache: str | Path | None = None) -> FactsTable:
    """The facts of each file, in order.

    Files whose size, modification time and inode are those of an earlier call are not read again.

    Args:
        paths: absolute paths of the image files; a sequence may make them when it is asked for one.
        cache: the cache folder, see `cache_folder`.
    """
    count = len(paths)
    hashes, sizes = np.zeros(count, dtype="S64"), np.zeros((count, 2), dtype=np.int32)
    errors: dict[int, str] = {}
    stamps = np.array([_stamp(path) for path in paths], dtype=np.int64).reshape(count, 3)
    with closing(_connect(cache_folder(cache) / "pictures.db")) as database:
        for i, facts in _load(database, paths, stamps):
            hashes[i], sizes[i] = facts
        fresh = np.flatnonzero(hashes == b"").tolist()
        if fresh:
            for i, found in zip(fresh, _read_all([paths[i] for i in fresh]), strict=True):
                hashes[i], sizes[i] = found.sha256.encode(), (found.width, found.height)
                if found.error:
                    errors[i] = found.error
            settled = (stamps[:, 0] >= 0) & (time.time_ns() - stamps[:, 1] > _SETTLED_NS)
            _store(database, ((os.fsencode(paths[i]), *stamps[i].tolist(), hashes[i].decode(), *sizes[i].tolist())
                              for i in fresh if settled[i] and i not in errors))  # fmt: skip
    return FactsTable(TextColumn(hashes), sizes, errors)


def has_settled(mtime_ns: int) -> bool:
    """Whether a file of this modification time cannot change again without getting another one."""
    return time.time_ns() - mtime_ns > _SETTLED_NS


def _stamp(path: str) -> _Stamp:
    """Size, modification time and inode; -1 if there are none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of the method, for each of very many files
    except OSError:
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ino & _INT64


def _connect(path: Path) -> sqlite3.Connection:
    """A damaged database is replaced by an empty one, because its contents can be computed again."""
    for _ in range(2):
        try:
            database = sqlite3.connect(path, timeout=60)
            database.execute(_CREATE_TABLE)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                break
            path.unlink(missing_ok=True)
        else:
            return database
    database = sqlite3.connect(":memory:")
    database.execute(_CREATE_TABLE)
    return database


def _load(
    database: sqlite3.Connection, paths: Sequence[str], stamps: NDArray[np.int64]
) -> Iterator[tuple[int, tuple[bytes, tuple[int, int]]]]:
    """Hash and size of each file whose stamp is that of a stored one."""
    keys = [os.fsencode(path) for path in paths]
    with suppress(sqlite3.DatabaseError):
        for i, stored in (_find_all if len(keys) >= _MANY else _find_each)(database, keys):
            size, mtime_ns, inode, sha256, width, height = stored
            if (size, mtime_ns, inode) == tuple(stamps[i].tolist()) and _HEX.fullmatch(str(sha256)):
                yield i, (sha256.encode(), (width, height))


def _find_each(database: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for i, key in enumerate(keys):
        row = database.execute(_FIND_ONE, (key,)).fetchone()
        if row is not None:
            yield i, row


def _find_all(database: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """As `_find_each`, in one pass over the part of the table in which the keys are."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    at = 0
    for path, *row in database.execute(_FIND_BETWEEN, (keys[order[0]], keys[order[-1]])):
        while at < len(order) and keys[order[at]] < path:
            at += 1
        while at < len(order) and keys[order[at]] == path:
            yield order[at], tuple(row)
            at += 1


def _store(database: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    # If another process locks the database or the disk is full, the next run reads the files again.
    with suppress(sqlite3.DatabaseError), database:
        database.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _read_all(paths: Sequence[str]) -> Iterator[ImageFacts]:
    tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    with show_progress("reading images", len(paths)) as progress:
        for found in _read_tasks(tasks):
            progress(len(found))
            yield from found


def _read_tasks(tasks: Sequence[Sequence[str]]) -> Iterator[list[ImageFacts]]:
    """Files that take long, because they are large or far away, are read by several threads.

    For small files in the memory of the operating system, threads would wait for each other most of the time.
    """
    done = 0
    for task in tasks:
        began = time.perf_counter()
        found = _read_task(task)
        taken = time.perf_counter() - began
        yield found
        done += 1
        if taken > _LONG * len(task):
            break
    with ThreadPoolExecutor() as pool:
        try:
            yield from pool.map(_read_task, tasks[done:])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _read_task(paths: Sequence[str]) -> list[ImageFacts]:
    return [_read(path) for path in paths]


def _read(path: str) -> ImageFacts:
    try:
        data = read_image_bytes(path)
    except (OSError, UnreadableImageError) as error:
        name_hash = hashlib.sha256(b"unread " + os.fsencode("/".join(Path(path).parts[-2:]))).hexdigest()
        return ImageFacts(name_hash, 0, 0, getattr(error, "strerror", None) or str(error))
    return ImageFacts(hashlib.sha256(data).hexdigest(), *read_header(data))
