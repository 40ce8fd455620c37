"""Standard output and error that are closed, full, ASCII only or gone with their terminal: no command needs them."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
from typing import Any

# What our texts hold beside ASCII; anything else, a file's name say, is written as Python escapes it.
_IN_ASCII = {"±": "+/-", "…": "...", "→": "->", "×": "x"}  # noqa: RUF001


class _Forgiving(io.FileIO):
    """A descriptor whose failed writes are dropped; the first failure is remembered."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def make_unfailing() -> None:
    """Replace standard output and error, unless somebody has taken their place, by streams that never raise.

    A descriptor that is closed becomes the null device: the next file that is opened would get its number, and with it
    whatever a child process prints.
    """
    codecs.register_error("eyegender.in_ascii", _in_ascii)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the process's life
        elif stream is getattr(sys, f"__{name}__"):
            stream.flush()
            at_once = stream.line_buffering or stream.write_through
            raw = _Forgiving(stream.fileno(), "w", closefd=False)
            new = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, errors="eyegender.in_ascii", line_buffering=at_once
            )
            setattr(sys, name, new)


def log_in_utf8() -> None:
    """Let the log file of this job take every character, whatever the locale."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def lost_output() -> OSError | None:
    """Why standard output could not be written; None where it could, or where its reader had seen enough."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Forgiving):
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
