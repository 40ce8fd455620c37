"""Content hash and size of each picture file, remembered by what `stat` says, so that files are read once."""

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
from eyegender.data.decode import read_header
from eyegender.data.picture_bytes import read_picture
from eyegender.data.samples import BadPictureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_Stamp = tuple[int, int, int]

# A file changed within the clock's granularity of being hashed could change again without its stamp telling.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a file holds.

    Args:
        sha256: hash of the bytes, hex; of the folder's and the file's name where it cannot be read.
        width: in pixels, 0 where the header is unreadable.
        height: in pixels, 0 where the header is unreadable.
        error: why the file cannot be read, empty where it can.
    """

    sha256: str
    width: int
    height: int
    error: str = ""


def picture_facts(paths: Sequence[Path], cache: str | Path | None = None) -> list[PictureFacts]:
    """Facts of each file, in order; files that were seen before with the same size, time and inode are not read."""
    stamps = [_stamp(path) for path in paths]
    with closing(_connect(cache_folder(cache) / "pictures.db")) as database:
        known = dict(_recall(database, paths, stamps))
        fresh = [i for i in range(len(paths)) if i not in known]
        if fresh:
            known |= zip(fresh, _read_all([paths[i] for i in fresh]), strict=True)
            _remember(database, [(paths[i], stamp, known[i]) for i in fresh if (stamp := stamps[i]) is not None])
    return [known[i] for i in range(len(paths))]


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """A cache that cannot be used is replaced by an empty one: it holds nothing that cannot be worked out again."""
    for _ in range(2):
        try:
            database = sqlite3.connect(path, timeout=60)
            database.execute(
                "CREATE TABLE IF NOT EXISTS pictures (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
                " inode INTEGER, sha256 TEXT, width INTEGER, height INTEGER) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                break
            path.unlink(missing_ok=True)
        else:
            return database
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE TABLE pictures (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
        " inode INTEGER, sha256 TEXT, width INTEGER, height INTEGER) WITHOUT ROWID"
    )
    return database


def _key(path: Path) -> bytes:
    return os.fsencode(path.absolute())


def _recall(
    database: sqlite3.Connection, paths: Sequence[Path], stamps: Sequence[_Stamp | None]
) -> Iterator[tuple[int, PictureFacts]]:
    query = "SELECT size, mtime_ns, inode, sha256, width, height FROM pictures WHERE path = ?"
    with suppress(sqlite3.DatabaseError):
        for i, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
            row = database.execute(query, (_key(path),)).fetchone() if stamp is not None else None
            if row is not None and row[:3] == stamp:
                yield i, PictureFacts(*row[3:])


def _remember(database: sqlite3.Connection, found: list[tuple[Path, _Stamp, PictureFacts]]) -> None:
    now = time.time_ns()
    rows = [
        (_key(path), *stamp, facts.sha256, facts.width, facts.height)
        for path, stamp, facts in found
        if not facts.error and now - stamp[1] > _SETTLED_NS
    ]
    # Another process may hold the file or the disk may be full: then the next run reads the pictures again.
    with suppress(sqlite3.DatabaseError), database:
        database.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _read_all(paths: Sequence[Path]) -> Iterator[PictureFacts]:
    with ThreadPoolExecutor() as pool, show_progress("reading pictures", len(paths)) as progress:
        try:
            yield from _counted(pool.map(_read, paths, chunksize=1), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _counted(found: Iterator[PictureFacts], progress: Progress) -> Iterator[PictureFacts]:
    for facts in found:
        progress(1)
        yield facts


def _read(path: Path) -> PictureFacts:
    try:
        data = read_picture(path)
    except (OSError, BadPictureError) as error:
        unread = hashlib.sha256(b"unread " + os.fsencode("/".join(path.parts[-2:]))).hexdigest()
        return PictureFacts(unread, 0, 0, getattr(error, "strerror", None) or str(error))
    return PictureFacts(hashlib.sha256(data).hexdigest(), *read_header(data))
