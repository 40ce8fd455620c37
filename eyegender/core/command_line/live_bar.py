"""A live bar in the last line of the terminal; what is printed or logged meanwhile appears above it."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from eyegender.core.command_line.durations import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress, Task

# Frames per second; each costs about a millisecond of processor time.
_FRAMES = 4

_display: ContextVar[str] = ContextVar("display", default="auto")
# The console of the bars that are shown now: two consoles would write over each other's lines.
_shared: list[Console] = []


@contextmanager
def display_as(display: str) -> Iterator[None]:
    """Let `shows_bars` in the block follow `trainer.progress`: `auto`, `bars`, `lines` or `none`."""
    before = _display.set(display)
    try:
        yield
    finally:
        _display.reset(before)


def shows_bars(*, among_lines: bool = False) -> bool:
    """Whether progress is shown as bars; `auto` shows them only in a terminal.

    Args:
        among_lines: lines are printed to standard output meanwhile. If that is a pipe, as before `tee`, it may end in
            the same terminal and write over the bar, so there is none.
    """
    streams = (sys.stdout,) if among_lines else (sys.stdout, sys.stderr)
    return _display.get() == "bars" or (_display.get() == "auto" and any(map(_is_terminal, streams)))


def shows_lines() -> bool:
    """Whether progress is logged as lines."""
    return not shows_bars() and _display.get() != "none"


class LiveBar:
    """A bar with its activity, its counts, a few values, and the time that is left.

    Args:
        bars: rich's display.
        what: the activity.
        total: number of items.
    """

    def __init__(self, bars: Progress, what: str, total: int | None) -> None:
        self._bars = bars
        self._task = bars.add_task(what, total=total, values="", left=None)

    def advance(self, more: int) -> None:
        """Count further items that are done."""
        self._bars.advance(self._task, more)

    def update(self, **changes: Any) -> None:
        """Change `description`, `completed`, `total`, `values` (text) or `left` (seconds; None estimates them)."""
        self._bars.update(self._task, **changes)


@contextmanager
def live_bar(what: str, total: int | None = None) -> Iterator[LiveBar]:
    """Show a bar in the last line until the block ends, then remove it.

    It is on standard output if that is a terminal, otherwise on standard error. Handlers of the root logger that write
    to the terminal write above the bar meanwhile.
    """
    from rich.console import Console
    from rich.constrain import Constrain
    from rich.progress import Progress

    class Bars(Progress):
        def get_renderables(self) -> Iterator[Constrain]:
            # Room for the ^C that terminals echo: in a new line, it would hide from rich where the bar is.
            yield Constrain(self.make_tasks_table(self.tasks), console.width - 3)

    streams = sys.stdout, sys.stderr
    on_stdout, on_stderr = map(_is_terminal, streams)
    console = _shared[-1] if _shared else Console(
        stderr=on_stderr and not on_stdout, force_terminal=True if _display.get() == "bars" else None
    )  # fmt: skip
    bars = Bars(
        *_columns(), console=console, transient=True, expand=True, refresh_per_second=_FRAMES,
        redirect_stdout=on_stdout or not on_stderr, redirect_stderr=on_stderr,
    )  # fmt: skip
    _shared.append(console)
    moved: list[tuple[logging.StreamHandler[Any], Any]] = []
    try:
        with bars:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler):
                    for before, now in zip(streams, (sys.stdout, sys.stderr), strict=True):
                        if handler.stream is before and now is not before:
                            moved.append((handler, before))
                            handler.setStream(now)
                            break
            yield LiveBar(bars, what, total)
    finally:
        for handler, before in moved:
            handler.setStream(before)
        _shared.pop()


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            seconds = task.time_remaining if task.fields["left"] is None else task.fields["left"]
            return Text("" if seconds is None else f"{duration_text(seconds, tenths=False)} left", no_wrap=True)

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        Left(table_column=Column(no_wrap=True)),
    )


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False
