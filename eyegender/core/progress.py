"""Progress of long preparations: a bar on a terminal, else a line every ten seconds; and how they are stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int], None]
"""Called with the number of further items that are done."""

_LINE_EVERY_S = 10.0
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

    Without a terminal nothing is shown in the first seconds. Each report of progress also calls `check_stop`.

    Args:
        what: the activity, such as `decoding images`.
        total: number of items.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)

            def advance(more: int) -> None:
                check_stop()
                bar.advance(task, more)

            yield advance
    else:
        yield _log_progress(what, total)


def _log_progress(what: str, total: int) -> Progress:
    done = 0
    last = time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, last
        check_stop()
        done += more
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            _log.info("%s: %d of %d", what, done, total)

    return advance
