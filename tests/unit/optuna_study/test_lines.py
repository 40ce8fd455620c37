"""What a sweep prints about its trials, and its live display."""

import re
import sys
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import params_text
from tests.terminals import Terminal
from tests.unit.optuna_study.sweeping import TOY


@pytest.mark.parametrize(
    ("params", "keys", "text"),
    [
        ({"model.lr": 0.0010234567, "model.depth": 8}, (), "lr=0.00102 depth=8"),
        ({"model.lr": 0.5, "head.lr": 12345.678}, (), "model.lr=0.5 head.lr=1.23e+04"),
        ({"model.lr": 0.5}, ("head.lr",), "model.lr=0.5"),
        ({"model.lr": 0.5}, ("model.lr",), "lr=0.5"),
        ({"model": "mobilenet_v2", "seed": 123456}, (), "model=mobilenet_v2 seed=123456"),
        ({}, (), "-"),
    ],
)
def test_parameters_are_short(params: dict[str, object], keys: tuple[str, ...], text: str) -> None:
    assert params_text(params, keys) == text


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_the_running_trials_below_the_finished_ones(columns: int, tmp_path: Path) -> None:
    sweep = ("-m", "mode=slow", "steps=4", "seconds=0.4", "hydra.sweeper.n_trials=3", "x=interval(0.1,0.9)")
    terminal = Terminal([sys.executable, str(TOY), *sweep], columns, cwd=tmp_path)
    assert terminal.end() == 0, terminal.lines
    running = [line for frame in terminal.frames for line in frame if re.match(r"trial \d+  ━", line)]
    # The first complete trial shows how many steps one has.
    assert any(re.match(r"trial 0  ━+  step [123]  [\d.]+  ", line) for line in running)
    assert any(
        re.match(r"trial [12]  ━.*  step [12]/3  [\d.]+  y=\S{1,9} x=0\.\d{1,3} +\d+ s$", line) for line in running
    )
    states = [line for frame in terminal.frames for line in frame if "finished" in line]
    assert any(re.fullmatch(r"best [\d.]+ \(trial \d\), [12]/3 finished, \d+ s left, 1 running", s) for s in states)
    ended = [line for line in terminal.lines if line.startswith("trial ")]
    assert [line[:19] for line in ended] == [f"trial {number}    complete" for number in range(3)]
    assert all(re.fullmatch(r"trial \d    complete [\d.]+ \| y=\S{1,9} x=0\.\d{1,3}", line) for line in ended)
    assert terminal.shows_cursor


def test_after_ctrl_c_no_running_trial_is_left_on_the_screen(tmp_path: Path) -> None:
    sweep = ("-m", "mode=slow", "steps=100", "seconds=0.2", "hydra.sweeper.n_trials=3")
    terminal = Terminal([sys.executable, str(TOY), *sweep], 80, cwd=tmp_path)
    terminal.wait_for(lambda text: "trial 0  ━" in text and "running" in text)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "stopped by SIGINT" in "\n".join(terminal.lines)
    assert not [line for line in terminal.lines if "━" in line or "1 running" in line]
    assert terminal.shows_cursor
