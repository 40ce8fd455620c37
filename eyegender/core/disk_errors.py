"""A disk that is full, told in one line: which path needs how much."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Where a library passes on the system's words, or SQLite's own, and not the number.
_WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


def is_full(error: BaseException | str | None) -> bool:
    """Whether an error, what it came from, or its text says that a disk is full."""
    while isinstance(error, BaseException):
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return error is not None and any(words in error for words in _WORDS)


def full_disk(what: str, path: Path, needed: int, repair: str) -> UserError:
    """The line. `what` is a plural subject, `needed` are bytes, `repair` is what else than making room helps."""
    return UserError(f"{what} need {needed:,} bytes in {path}, got a full disk; make room there{repair}")


@contextmanager
def told_when_full(what: str, path: Path, needed: int, repair: str) -> Iterator[None]:
    """Turn a disk that fills inside the block into a `UserError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_full(error):
            raise
        raise full_disk(what, path, needed, repair) from error
