from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eyegender.training import measurements
from eyegender.training.measurements import fastest


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The times that are measured."""
    times = {"first": 1.0, "second": 1.0}
    monkeypatch.setattr(measurements, "measure_seconds", lambda *_: dict(times))
    return times


OPTIONS = {"first": lambda: None, "second": lambda: None}


def test_the_first_option_wins_unless_another_is_clearly_faster(seconds: dict[str, float], tmp_path: Path) -> None:
    seconds["second"] = 0.95
    assert fastest("a", OPTIONS, tmp_path) == "first"
    seconds["second"] = 0.5
    assert fastest("b", OPTIONS, tmp_path) == "second"


def test_a_choice_does_not_change_with_a_new_measurement(seconds: dict[str, float], tmp_path: Path) -> None:
    assert fastest("a", OPTIONS, tmp_path) == "first"
    seconds["second"] = 0.1
    assert fastest("a", OPTIONS, tmp_path) == "first"
    assert fastest("something else", OPTIONS, tmp_path) == "second"


def test_another_machine_measures_again(
    seconds: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fastest("a", OPTIONS, tmp_path) == "first"
    monkeypatch.setattr(measurements, "machine", lambda: "another")
    seconds["second"] = 0.1
    assert fastest("a", OPTIONS, tmp_path) == "second"


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"chosen": "a third"}), "[1]"])
def test_a_damaged_measurement_is_made_again(content: str, tmp_path: Path) -> None:
    fastest("a", OPTIONS, tmp_path)
    (file,) = (tmp_path / "precision").glob("*.json")
    file.write_text(content)
    assert fastest("a", OPTIONS, tmp_path) == "first"
    assert json.loads(file.read_text())["seconds"] == {"first": 1.0, "second": 1.0}


def test_measuring_leaves_random_states_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    seconds = measurements.measure_seconds({"a": lambda: torch.rand(5), "b": lambda: torch.rand(7)})
    assert torch.equal(torch.rand(1), expected)
    assert set(seconds) == {"a", "b"}


class Clock:
    """A simulated clock, and options that take given times on it, longer ones at their first run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.undo()
        monkeypatch.setattr(measurements, "clock", lambda: self.now)

    def option(self, seconds: float, first: float) -> Callable[[], None]:
        rest = iter([first])

        def run() -> None:
            self.now += next(rest, seconds)

        return run

    def fastest(self, cache: Path, steps: float, **seconds: float) -> str:
        options = {name: self.option(value, 3 * value) for name, value in seconds.items()}
        return fastest("simulated", options, cache, steps=steps)


@pytest.mark.parametrize("second", [0.2, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("steps", [1, 100, 499, 500, 1000, 3000, 10_000, 10**6])
def test_measuring_takes_at_most_two_percent_of_the_run(
    second: float, steps: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock(monkeypatch)
    chosen = clock.fastest(tmp_path, steps, first=1.0, second=second, third=2.0)
    assert clock.now <= 0.02 * steps
    if steps >= 10_000:
        assert chosen == ("second" if second < 0.9 else "first")


def test_a_short_run_does_not_follow_what_a_long_one_has_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock(monkeypatch)
    assert clock.fastest(tmp_path, 600, first=1.0, second=0.5) == "first"
    assert clock.fastest(tmp_path, 10_000, first=1.0, second=0.5) == "second"
    spent = clock.now
    assert clock.fastest(tmp_path, 600, first=1.0, second=0.5) == "first"
    assert clock.fastest(tmp_path, 10_000, first=1.0, second=0.5) == "second"
    assert clock.now == spent


def test_an_option_that_does_not_fit_into_the_limit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    options = {"first": clock.option(1, 1), "slow": clock.option(50, 50), "never tried": clock.option(1, 1)}
    assert measurements.measure_seconds(options, limit=20) == {"first": 1.0}
    assert clock.now == 52
