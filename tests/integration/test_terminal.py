"""What a person sees of a training in a terminal, and what a log file gets."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.composing import TINY
from tests.terminals import Terminal

pytestmark = pytest.mark.integration

OPTIONS = (*TINY, "trainer.progress=auto", "data.n=240", "trainer.batch_size=8", "features=off")
EPOCH = r"epoch {}/{}  loss \d\.\d{{4}} val \d\.\d{{4}}  accuracy \d+\.\d\d% val \d+\.\d\d%  [\d.]+ s"
BAR = r"epoch 1/\d+ ━.* \d+/\d+ loss \d\.\d{4} accuracy \d+\.\d\d% +\d+ (s|min \d\d s) left"


def train_in(columns: int, folder: Path, *overrides: str) -> Terminal:
    return Terminal([sys.executable, "-m", "eyegender.train", *OPTIONS, *overrides], columns, cwd=folder)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_run_says_what_it_does_and_shows_a_bar_below_one_line_per_epoch(columns: int, tmp_path: Path) -> None:
    terminal = train_in(columns, tmp_path, "trainer.max_epochs=2")
    assert terminal.end() == 0, terminal.lines
    lines = terminal.lines
    begin = next(k for k, line in enumerate(lines) if line.startswith("Train    "))
    labels = [line.split()[0] for line in lines[begin : begin + 7]]
    assert labels == ["Train", "Data", "Images", "Classes", "Weights", "Log", "Output"]
    epochs = lines[begin + 7 : begin + 9]
    assert re.fullmatch(EPOCH.format(1, 2), epochs[0])
    assert re.fullmatch(EPOCH.format(2, 2), epochs[1])
    assert re.match(r"Done in (\d+ s|\d+\.\d s|1 min \d\d s): test accuracy \d+\.\d\d%, best epoch", lines[begin + 9])
    assert len([line for line in lines if line.startswith(("Look     ", "Next     "))]) == 2
    assert not [line for line in lines if "━" in line and line.startswith("epoch")]
    assert terminal.shows_cursor
    bars = [frame[-1] for frame in terminal.frames if frame and frame[-1].startswith("epoch 1/2 ━")]
    assert any(re.fullmatch(BAR, bar) for bar in bars), bars
    for bar in bars:
        assert len(bar) <= columns - 3


@pytest.mark.parametrize("columns", [80, 120])
def test_ctrl_c_leaves_whole_lines_and_says_how_to_resume(columns: int, tmp_path: Path) -> None:
    terminal = train_in(columns, tmp_path, "trainer.max_epochs=50")
    terminal.wait_for(lambda text: "epoch  2/50 ━" in text)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert re.fullmatch(EPOCH.format(" 1", 50), next(line for line in terminal.lines if line.startswith("epoch")))
    assert "stopped by signal 2; resume with ckpt_path=" in "\n".join(terminal.lines)
    assert not [line for line in terminal.lines if "━" in line or "^C" in line]
    assert terminal.shows_cursor


def test_an_error_in_the_middle_is_a_line_of_its_own(tmp_path: Path) -> None:
    terminal = train_in(80, tmp_path, "model.lr=1e30", "trainer.gradient_clip=null", "trainer.max_epochs=5")
    assert terminal.end() == 2
    assert [line for line in terminal.lines if line.startswith("eyegender: ")]
    assert not [line for line in terminal.lines if "━" in line]
    assert terminal.shows_cursor


def test_a_pipe_gets_one_line_per_epoch_and_nothing_else_of_the_progress(tmp_path: Path) -> None:
    done = processes.run("eyegender.train", *OPTIONS, "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert re.fullmatch(EPOCH.format(1, 2), lines[0])
    assert "decoding" not in done.stdout + done.stderr  # took less than ten seconds
