from typing import Any

import pytest
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from eyegender.comparison.run_record import backbone_name
from eyegender.comparison.selection import best_of_each_backbone
from eyegender.core.errors import UserError


def finished(
    name: str,
    accuracy: float,
    model: str = "mobilenet_v2",
    *,
    tested: bool = True,
    split: str | None = "s1",
    **params: Any,
) -> Run:
    metrics = [Metric("best/val/accuracy", accuracy, 0, 0)] + [Metric("test/accuracy", 0.5, 0, 0)] * tested
    logged = {
        "model.name": model,
        "data.reader.root": "celeba",
        **{key if key.startswith("model.") else f"data.{key}": v for key, v in params.items()},
    }
    info = RunInfo(name, "1", "me", "FINISHED", 0, 1, "active")
    tags = [RunTag("data.source", "celeba"), *([RunTag("split.fingerprint", split)] if split else [])]
    return Run(info, RunData(metrics, [Param(k, v) for k, v in logged.items()], tags))


def selected(*runs: Run) -> list[tuple[str, int | None]]:
    return [(one.run.info.run_id, one.trials) for one in best_of_each_backbone(runs, "val/accuracy", "max")]


def test_best_run_of_each_backbone_with_the_number_of_candidates() -> None:
    runs = finished("a", 0.7), finished("b", 0.9), finished("c", 0.8, "inception_v3")
    assert selected(*runs) == [("b", 2), ("c", 1)]


def test_networks_of_two_libraries_with_one_name_are_two_backbones() -> None:
    target = "eyegender.models.libraries.timm_backbone.TimmBackbone"
    timms = finished("b", 0.9, "resnet50", **{"model.backbone._target_": target})
    assert selected(finished("a", 0.7, "resnet50"), timms) == [("a", 1), ("b", 1)]
    assert [backbone_name(run.data.params) for run in (finished("a", 0.7), timms)] == [
        "mobilenet_v2",
        "resnet50 (timm)",
    ]


def test_runs_are_ranked_across_sizes_but_not_across_splits() -> None:
    """The fingerprint of the split decides, and not the config: other images or another seed give another split."""
    runs = finished("a", 0.7, size="96"), finished("b", 0.9, size="224"), finished("c", 0.99, split="s2")
    assert selected(*runs) == [("b", 2), ("c", 1)]


def test_runs_with_different_data_settings_but_equal_splits_are_ranked() -> None:
    runs = (
        finished("a", 0.7, **{"reader.root": "here", "split.seed": "0"}),
        finished("b", 0.9, **{"reader.root": "there"}),
    )
    assert selected(*runs) == [("b", 2)]


def test_runs_without_a_logged_split_are_not_ranked() -> None:
    assert selected(finished("a", 0.7, split=None), finished("b", 0.9, split=None)) == [("a", 1), ("b", 1)]


def test_the_best_tested_run_is_selected_beside_an_untested_best_run() -> None:
    assert selected(finished("a", 0.7), finished("b", 0.9, tested=False)) == [("b", 2), ("a", 2)]


def test_a_metric_that_no_run_logged_is_reported() -> None:
    with pytest.raises(UserError, match="none of 1 runs logged best/val/luck"):
        best_of_each_backbone([finished("a", 0.7)], "val/luck", "max")
