"""Errors that a user can repair, and the translation of full disks and missing packages into them."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from importlib import metadata, util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER_MISTAKE = 2  # exit code

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries may pass on the system's message, or SQLite's, without the error number.
_DISK_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded", "database or disk is full")

_REQUIREMENT_OF_EXTRA = re.compile(r"([\w.-]+).*\bextra == ['\"]([\w-]+)['\"]")
# Distributions whose module has another name.
_MODULES = {"grpcio": "grpc", "psycopg2-binary": "psycopg2"}


def one_line(text: str) -> str:
    """`text` with every unprintable character escaped: a file name must not break lines or control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """A mistake in what the user typed or provided. Every command prints it as a single line, without a traceback.

    Unprintable characters in file names are escaped.

    Args:
        message: one line with the rule, the value received and the repair; it must make sense without the details.
        details: further lines, for errors where a list helps, such as all unreadable images.

    Example:
        >>> raise UserError("data.size must be 8 pixels or more, got 4; set data.size")
        Traceback (most recent call last):
        ...
        eyegender.core.errors.UserError: data.size must be 8 pixels or more, got 4; set data.size
    """

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(one_line(message))
        self.details = tuple(map(one_line, details))


def is_disk_full(error: BaseException | str | None) -> bool:
    """Whether an error, one of its causes, or its text says that a disk is full."""
    while isinstance(error, BaseException):
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        if any(words in str(error) for words in _DISK_FULL_MESSAGES):
            return True
        error = error.__cause__ or error.__context__
    return error is not None and any(words in error for words in _DISK_FULL_MESSAGES)


def disk_full_error(what: str, path: Path, needed: int, repair: str = "") -> UserError:
    """The error for a full disk.

    Args:
        what: the data to be written, as a plural subject.
        path: the folder or file that it was to be written to.
        needed: size of the data in bytes.
        repair: what else helps than freeing disk space, as the end of the sentence.
    """
    return UserError(f"{what} need {needed:,} bytes in {path}, got a full disk; make room there{repair}")


@contextmanager
def translate_disk_errors(what: str, path: Path, needed: int, repair: str = "") -> Iterator[None]:
    """Turn the error of a disk that fills up inside the block into a `UserError`; see `disk_full_error`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_disk_full(error):
            raise
        raise disk_full_error(what, path, needed, repair) from error


def install_hint(message: str) -> str:
    """How to install what `message` misses, if an extra of this package provides it; else an empty string."""
    if "eyegender[" in message:
        return ""
    if launcher := re.search(r"Could not find 'hydra/launcher/([a-z]+)", message):
        wanted = f"hydra-{launcher[1]}-launcher"
        found = [extra for name, extra in _requirements_of_extras() if name == wanted]
    elif re.search(r"\binstall|\bimport|No module named", message):
        words = set(re.findall(r"[\w-]+", message))
        found = [
            extra for name, extra in _requirements_of_extras() if {name, _module(name)} & words and _is_missing(name)
        ]
    else:
        return ""
    return f"; pip install 'eyegender[{found[0]}]'" if found else ""


def _requirements_of_extras() -> list[tuple[str, str]]:
    """Each distribution that only an extra requires, with that extra."""
    try:
        required = metadata.requires("eyegender") or ()
    except metadata.PackageNotFoundError:  # eyegender runs from its sources
        return []
    return [(found[1], found[2]) for line in required if (found := _REQUIREMENT_OF_EXTRA.match(line))]


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, distribution.replace("-", "_"))


def _is_missing(distribution: str) -> bool:
    return util.find_spec(_module(distribution)) is None
