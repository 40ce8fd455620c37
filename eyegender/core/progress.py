"""Progress of long preparations: a bar in a terminal, else at most ten lines; and how they are stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eyegender.core.command_line.durations import duration_text
from eyegender.core.command_line.live_bar import live_bar, shows_bars, shows_lines

Progress = Callable[[int], None]
"""Called with the number of further items that are done."""

_LINE_EVERY_S = 10.0
_LINES = 10
_log = logging.getLogger(__name__)
_stop: ContextVar[Callable[[], None]] = ContextVar("stop", default=lambda: None)


@contextmanager
def stoppable(check: Callable[[], None]) -> Iterator[None]:
    """Let long preparations in the block call `check` regularly; an exception that it raises ends them."""
    before = _stop.set(check)
    try:
        yield
    finally:
        _stop.reset(before)


def check_stop() -> None:
    """Call the `check` of the enclosing `stoppable`, if there is one."""
    _stop.get()()


@contextmanager
def show_progress(what: str, total: int) -> Iterator[Progress]:
    """Show how many of `total` items are done.

    In a terminal that is a bar, and a line at the end if it took ten seconds or more. Elsewhere, nothing is shown in
    the first ten seconds, and at most ten lines in all. Each report of progress also calls `check_stop`.

    Args:
        what: the activity, such as `decoding images`.
        total: number of items.
    """
    lines = _Lines(what, total)
    if shows_bars():
        with live_bar(what, total) as bar:

            def advance(more: int) -> None:
                check_stop()
                lines.done += more
                bar.advance(more)

            yield advance
        lines.log_end()
    else:

        def advance_without_bar(more: int) -> None:
            check_stop()
            lines.done += more
            lines.log_if_due()

        yield advance_without_bar


class _Lines:
    """Logs how many items are done: at most one line per tenth of them and per ten seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.done = self._logged = 0
        self._begin = self._last = time.monotonic()

    def log_if_due(self) -> None:
        now = time.monotonic()
        is_last = self.done >= self.total
        due = is_last or (self.done - self._logged) * _LINES >= self.total
        if due and shows_lines() and now - (self._begin if is_last else self._last) >= _LINE_EVERY_S:
            self._log(now)

    def log_end(self) -> None:
        now = time.monotonic()
        if now - self._begin >= _LINE_EVERY_S:
            self._log(now)

    def _log(self, now: float) -> None:
        self._last, self._logged = now, self.done
        spent = now - self._begin
        text = f"{self.what}: {self.done:,} of {self.total:,} in {duration_text(spent)}"
        if 0 < self.done < self.total:
            text += f", {duration_text(spent * (self.total / self.done - 1), tenths=False)} left"
        _log.info("%s", text)
