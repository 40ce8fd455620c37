"""Progress in a terminal, and where there is none."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import pytest

from eyegender.core.command_line.durations import duration_text
from eyegender.core.command_line.live_bar import display_as, shows_bars
from eyegender.core.progress import show_progress
from tests.terminals import Terminal

PROGRAM = """
import logging, sys, time, warnings
from eyegender.core.progress import show_progress

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
print("before")
with show_progress("decoding images", 40) as advance:
    for i in range(40):
        time.sleep(0.03)
        advance(1)
        if i == 9:
            logging.info("a line of the log")
        if i == 19:
            print("a warning of a library", file=sys.stderr)
        if i == 29 and sys.argv[1:] == ["fails"]:
            raise ValueError("in the middle")
        if i == 29 and sys.argv[1:] == ["waits"]:
            time.sleep(60)
print("after")
"""
LINES = ["before", "a line of the log", "a warning of a library"]


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


@pytest.mark.parametrize("columns", [80, 120])
def test_lines_stay_whole_above_the_bar_which_disappears(program: list[str], columns: int) -> None:
    terminal = Terminal(program, columns)
    assert terminal.end() == 0
    assert terminal.lines == [*LINES, "after"]
    assert terminal.shows_cursor
    bars = [frame for frame in terminal.frames if frame and frame[-1].startswith("decoding images ")]
    assert any(re.search(r" \d+/40 ", frame[-1]) for frame in bars)
    assert any(len(frame[-1]) > columns - 15 and frame[-1].endswith("s left") for frame in bars)
    assert all(line in LINES for frame in bars for line in frame[:-1])


@pytest.mark.parametrize(("argument", "said"), [("fails", "ValueError: in the middle"), ("waits", "KeyboardInterrupt")])
def test_after_an_error_or_ctrl_c_no_bar_is_left(program: list[str], argument: str, said: str) -> None:
    terminal = Terminal([*program, argument], 80)
    if argument == "waits":
        terminal.wait_for(lambda text: "30/40" in text)
        terminal.type("\x03")
    assert terminal.end() != 0
    assert terminal.lines[:4] == [*LINES, "Traceback (most recent call last):"]
    assert terminal.lines[-1] == said
    assert not any(line.startswith("decoding") for line in terminal.lines)
    assert terminal.shows_cursor


def test_a_bar_among_lines_needs_standard_output_to_be_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, terminal = io.StringIO(), io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    assert (shows_bars(), shows_bars(among_lines=True)) == (True, False)
    with display_as("bars"):
        assert shows_bars(among_lines=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert shows_bars(among_lines=True)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "lines"), [(0.001, 0), (0.02, 3), (1.0, 10), (10.0, 10)])
def test_without_a_terminal_there_are_at_most_ten_lines(
    seconds: float, lines: int, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with display_as("lines"), show_progress("decoding images", 1234) as advance:
        for _ in range(1234):
            now[0] += seconds
            advance(1)
    assert len(caplog.messages) == lines
    if lines:
        assert caplog.messages[-1] == f"decoding images: 1,234 of 1,234 in {duration_text(1234 * seconds)}"


def test_progress_none_logs_nothing(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with display_as("none"), show_progress("decoding images", 10) as advance:
        for _ in range(10):
            now[0] += 100
            advance(1)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (4.24, "4.2 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (250, "4 min 10 s"), (3599.7, "1 h 00 min"), (7510, "2 h 05 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
