from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eyegender.features import precision_choice
from eyegender.features.precision_choice import quickest


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the measurement would say."""
    told = {"first": 1.0, "second": 1.0}
    monkeypatch.setattr(precision_choice, "measure", lambda _: dict(told))
    return told


WAYS = {"first": lambda: None, "second": lambda: None}


def test_the_first_stays_unless_another_is_clearly_quicker(seconds: dict[str, float], tmp_path: Path) -> None:
    seconds["second"] = 0.95
    assert quickest("a", WAYS, tmp_path) == "first"
    seconds["second"] = 0.5
    assert quickest("b", WAYS, tmp_path) == "second"


def test_a_choice_stays_whatever_a_new_measurement_would_say(seconds: dict[str, float], tmp_path: Path) -> None:
    assert quickest("a", WAYS, tmp_path) == "first"
    seconds["second"] = 0.1
    assert quickest("a", WAYS, tmp_path) == "first"
    assert quickest("something else", WAYS, tmp_path) == "second"


def test_another_machine_measures_for_itself(
    seconds: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quickest("a", WAYS, tmp_path) == "first"
    monkeypatch.setattr(precision_choice, "machine", lambda: "another")
    seconds["second"] = 0.1
    assert quickest("a", WAYS, tmp_path) == "second"


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"chosen": "a third"}), "[1]"])
def test_a_damaged_note_is_measured_anew(content: str, tmp_path: Path) -> None:
    quickest("a", WAYS, tmp_path)
    (note,) = (tmp_path / "precision").glob("*.json")
    note.write_text(content)
    assert quickest("a", WAYS, tmp_path) == "first"
    assert json.loads(note.read_text())["seconds"] == {"first": 1.0, "second": 1.0}


def test_measuring_draws_no_random_number_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    taken = precision_choice.measure({"a": lambda: torch.rand(5), "b": lambda: torch.rand(7)})
    assert torch.equal(torch.rand(1), expected)
    assert set(taken) == {"a", "b"}
