"""Makes standard output and error safe to write to if they are closed, full, ASCII only or lost with their terminal."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
from typing import Any

# The characters of our texts that are not ASCII; others, such as those of file names, are escaped.
_IN_ASCII = {"±": "+/-", "…": "...", "→": "->", "×": "x"}  # noqa: RUF001


class _DroppingFile(io.FileIO):
    """A file that drops failed writes and remembers the first failure."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def make_output_safe() -> None:
    """Replace standard output and error by streams that never raise, unless they have been replaced already.

    A closed descriptor is opened as the null device. Otherwise the next file that is opened would get its number, and
    child processes would print into that file.
    """
    codecs.register_error("eyegender.in_ascii", _in_ascii)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the process ends
        elif stream is getattr(sys, f"__{name}__"):
            stream.flush()
            at_once = stream.line_buffering or stream.write_through
            raw = _DroppingFile(stream.fileno(), "w", closefd=False)
            new = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, errors="eyegender.in_ascii", line_buffering=at_once
            )
            setattr(sys, name, new)


def log_in_utf8() -> None:
    """Make the log file of this job accept every character, whatever the locale."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def lost_output() -> OSError | None:
    """Why standard output could not be written; None if it could, or if its reader closed the pipe."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _DroppingFile):
        return None
    sys.stdout.flush()
    return None if raw.failure is None or raw.failure.errno == errno.EPIPE else raw.failure


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    if all(character in _IN_ASCII for character in wanted):
        return "".join(_IN_ASCII[character] for character in wanted), error.end
    escaped, end = codecs.backslashreplace_errors(error)
    return str(escaped), end
