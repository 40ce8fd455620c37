"""Commands in a pseudo-terminal, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_ROWS = 50


class Terminal:
    """A command in a terminal of its own.

    Args:
        command: program and arguments.
        columns: width of the terminal.
        cwd: working folder.
        env: on top of this process's environment.
    """

    def __init__(
        self, command: Sequence[str], columns: int, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        pyte: Any = pytest.importorskip("pyte", reason="pyte, which emulates terminals, is not installed")
        self.columns = columns
        self._screen = pyte.HistoryScreen(columns, _ROWS, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.frames: list[list[str]] = []
        """Every picture of the screen that differed from the one before; its lines, without empty ones at the end."""
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
        variables = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}}
        self._process = subprocess.Popen(
            command, cwd=cwd, env={**variables, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=lambda: _log_in(theirs),  # noqa: PLW1509 - no thread runs here
            close_fds=True,
        )  # fmt: skip
        os.close(theirs)

    @property
    def lines(self) -> list[str]:
        """All lines, those that have left the screen included."""
        above = ["".join(line[x].data for x in range(self.columns)) for line in self._screen.history.top]
        lines = [line.rstrip() for line in (*above, *self._screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def shows_cursor(self) -> bool:
        return not self._screen.cursor.hidden

    def type(self, keys: str) -> None:
        """Press keys, such as `\\x03` for Ctrl-C."""
        os.write(self._own, keys.encode())

    def wait_for(self, found: Callable[[str], object], timeout: float = 400) -> None:
        """Read until the text of the screen satisfies a condition; fails if the command ends before."""
        if not self._read(lambda: bool(found("\n".join(self.lines))), timeout):
            self._process.wait()
            pytest.fail(f"the command has ended: {self.lines}")

    def end(self, timeout: float = 400) -> int:
        """Read until the command has ended; its exit status, or minus the number of its signal."""
        try:
            self._read(lambda: False, timeout)
            return self._process.wait(timeout)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._own)

    def _read(self, done: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                self._process.kill()
                pytest.fail(f"not within {timeout} s: {self.lines}")
            if not select.select([self._own], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._own, 1 << 16)
            except OSError:  # no process has the terminal open any more
                return False
            if not data:
                return False
            self._stream.feed(data)
            if not self.frames or self.lines != self.frames[-1]:
                self.frames.append(self.lines)
        return True


def _log_in(terminal: int) -> None:
    """Make it the terminal of this process, in which Ctrl-C interrupts, even if whoever runs the tests ignores it."""
    os.login_tty(terminal)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
