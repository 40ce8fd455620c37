from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from eyegender.core.errors import UserError
from eyegender.models import model_costs
from eyegender.models.model_costs import costs
from eyegender.models.saved_network import ModelSpec
from eyegender.training.summary import RunResult

SPEC = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 3, 32, "gray", ("female", "male"))


def result(card: ModelSpec) -> RunResult:
    nothing = cast("Any", None)
    return RunResult(0.9, {"val/accuracy": 0.9}, nothing, Path(), None, card, nothing, nothing)


def test_a_sweep_and_a_comparison_measure_the_same_latency() -> None:
    parameters, _, milliseconds = costs(SPEC, latency=True)
    assert result(SPEC).objective(["val/accuracy", "latency_ms", "parameters"]) == (0.9, milliseconds, parameters)
    # What was trained of the network, and what the classes are called, is no other network.
    assert costs(replace(SPEC, depth=0, classes=("a", "b")), latency=True)[2] == milliseconds


def test_latency_is_measured_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(model_costs, "measure_latency", never)
    card = replace(SPEC, size=40)
    assert result(card).objective(["parameters"]) == (costs(card, latency=False)[0],)
    assert result(card).objective(None) == 0.9


def test_an_average_over_the_mirror_image_costs_two_passes() -> None:
    once, twice = (costs(replace(SPEC, flip_average=flip), latency=False)[1] for flip in (False, True))
    assert twice == 2 * once


def test_an_unknown_objective_is_an_error() -> None:
    with pytest.raises(UserError, match="no metric val/luck"):
        result(SPEC).objective(["val/luck"])
