"""Content hash and size of each image file, cached by what `stat` returns, so that each file is read once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.core.cache import cache_folder
from eyegender.core.progress import Progress, show_progress
from eyegender.data.decode import read_header, read_image_bytes
from eyegender.data.readers import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_Stamp = tuple[int, int, int]

# A file that changed just before it was hashed could change again within the granularity of its modification time.
_SETTLED_NS = 2_000_000_000

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


def image_facts(paths: Sequence[Path], cache: str | Path | None = None) -> list[ImageFacts]:
    """The facts of each file, in order.

    Files whose size, modification time and inode are those of an earlier call are not read again.

    Args:
        paths: the image files.
        cache: the cache folder, see `cache_folder`.
    """
    stamps = [_stamp(path) for path in paths]
    with closing(_connect(cache_folder(cache) / "pictures.db")) as database:
        known = dict(_load(database, paths, stamps))
        fresh = [i for i in range(len(paths)) if i not in known]
        if fresh:
            known |= zip(fresh, _read_all([paths[i] for i in fresh]), strict=True)
            _store(database, [(paths[i], stamp, known[i]) for i in fresh if (stamp := stamps[i]) is not None])
    return [known[i] for i in range(len(paths))]


def has_settled(mtime_ns: int) -> bool:
    """Whether a file of this modification time cannot change again without getting another one."""
    return time.time_ns() - mtime_ns > _SETTLED_NS


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


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


def _key(path: Path) -> bytes:
    return os.fsencode(path.absolute())


def _load(
    database: sqlite3.Connection, paths: Sequence[Path], stamps: Sequence[_Stamp | None]
) -> Iterator[tuple[int, ImageFacts]]:
    query = "SELECT size, mtime_ns, inode, sha256, width, height FROM pictures WHERE path = ?"
    with suppress(sqlite3.DatabaseError):
        for i, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
            row = database.execute(query, (_key(path),)).fetchone() if stamp is not None else None
            if row is not None and row[:3] == stamp:
                yield i, ImageFacts(*row[3:])


def _store(database: sqlite3.Connection, found: list[tuple[Path, _Stamp, ImageFacts]]) -> None:
    rows = [
        (_key(path), *stamp, facts.sha256, facts.width, facts.height)
        for path, stamp, facts in found
        if not facts.error and has_settled(stamp[1])
    ]
    # If another process locks the database or the disk is full, the next run reads the files again.
    with suppress(sqlite3.DatabaseError), database:
        database.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _read_all(paths: Sequence[Path]) -> Iterator[ImageFacts]:
    with ThreadPoolExecutor() as pool, show_progress("reading images", len(paths)) as progress:
        try:
            yield from _report_progress(pool.map(_read, paths, chunksize=1), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _report_progress(found: Iterator[ImageFacts], progress: Progress) -> Iterator[ImageFacts]:
    for facts in found:
        progress(1)
        yield facts


def _read(path: Path) -> ImageFacts:
    try:
        data = read_image_bytes(path)
    except (OSError, UnreadableImageError) as error:
        name_hash = hashlib.sha256(b"unread " + os.fsencode("/".join(path.parts[-2:]))).hexdigest()
        return ImageFacts(name_hash, 0, 0, getattr(error, "strerror", None) or str(error))
    return ImageFacts(hashlib.sha256(data).hexdigest(), *read_header(data))
