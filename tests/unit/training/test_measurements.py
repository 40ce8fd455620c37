from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eyegender.training import measurements
from eyegender.training.measurements import fastest


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The times that are measured."""
    times = {"first": 1.0, "second": 1.0}
    monkeypatch.setattr(measurements, "measure_seconds", lambda _: dict(times))
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
