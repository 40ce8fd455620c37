"""Comparison of real runs: the page, the Markdown, and the MLflow run of the comparison."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag

from eyegender.comparison.workflow import ComparisonResult, compare_runs
from eyegender.core.errors import UserError
from eyegender.core.options import CompareOptions
from eyegender.core.schema import parse_as
from eyegender.tracking.tracking_store import open_store
from tests import processes
from tests.composing import compose_config
from tests.integration.conftest import TrackedRuns

pytestmark = pytest.mark.integration


def compared(tracked: TrackedRuns, folder: Path, *overrides: str) -> ComparisonResult:
    options = parse_as(compose_config(tracked.where, "latency=false", *overrides, name="compare"), CompareOptions)
    return compare_runs(open_store(options.tracking), options, folder)


def test_the_best_run_of_each_backbone_is_compared(tracked: TrackedRuns, tmp_path: Path) -> None:
    result = compared(tracked, tmp_path / "page", "latency=true")
    runs = {run.record.backbone: run for run in result.comparison.runs}
    assert set(runs) == {"mobilenet_v2", "inception_v3"}
    assert [group.letter for group in result.comparison.groups] == ["A"]
    assert runs["mobilenet_v2"].record.trials == 2
    for name, run in runs.items():
        logged = tracked.client.get_run(run.record.run_id).data.metrics["test/accuracy"]
        assert run.metrics["accuracy"].value == pytest.approx(logged, abs=1e-6), name
        assert run.record.history
    costs = runs["mobilenet_v2"].record.costs
    assert costs.parameters == 2_225_153
    assert costs.size_bytes is not None
    assert costs.size_bytes > 8_000_000
    assert costs.multiply_adds is not None
    assert costs.latency_ms is not None
    page = (tmp_path / "page" / "comparison.html").read_text()
    assert "91.82%" not in page  # the accuracy in the paper, on real eyes
    assert "better than" in page or "cannot be told apart" in page
    assert "synthetic eyes" in page
    assert "from mlruns/mlflow.db." in page
    assert str(tmp_path) not in page
    assert str(tracked.folder) not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # self-contained
    figures = {path.stem for path in (tmp_path / "page" / "figures").glob("*.png")}
    assert {
        "accuracy",
        "accuracy_per_epoch",
        "roc",
        "reliability",
        "confusion_matrices",
        "accuracy_against_latency",
    } <= figures


def test_the_comparison_is_a_run_with_the_same_files(tracked: TrackedRuns, tmp_path: Path) -> None:
    result = compared(tracked, tmp_path / "page", f"runs=[{tracked.id('first')},{tracked.id('inception')}]")
    run = tracked.client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["eyegender.kind"] == "comparison"
    assert tracked.id("first") in run.data.tags["compared.runs"]
    stored = {item.path for item in tracked.client.list_artifacts(result.run_id)}
    assert stored == {"comparison.html", "comparison.md", "figures"}
    # A later comparison ignores it, because it trained no network.
    again = compared(tracked, tmp_path / "again", "pick=all")
    assert {one.record.run_id for one in again.comparison.runs} == {tracked.id(name) for name in tracked.results}
    assert len(again.comparison.seed_groups) == 1  # the two seeds


def test_a_run_without_test_predictions_is_named_and_left_out(tracked: TrackedRuns, tmp_path: Path) -> None:
    client = tracked.client
    experiment = client.get_experiment_by_name("eyegender").experiment_id
    parent = client.create_run(experiment, tags={"study.name": "tried"}, run_name="study").info.run_id
    trial = client.create_run(experiment, tags={"mlflow.parentRunId": parent}, run_name="untested").info.run_id
    client.log_batch(
        trial, [Metric("best/val/accuracy", 0.99, 0, 1)], [Param("model.name", "mobilenet_v2")], [RunTag("x", "y")]
    )
    client.set_terminated(trial)
    try:
        with pytest.raises(UserError, match="none of 1 runs can be compared") as error:
            compared(tracked, tmp_path / "page", "study=tried")
        assert error.value.details == (f"untested ({trial}) stored no test predictions.",)
        result = compared(tracked, tmp_path / "both")  # the best by validation, and the best of the tested ones
        assert result.comparison.left_out == (f"untested ({trial}) stored no test predictions.",)
        assert len(result.comparison.runs) == 2
    finally:
        client.delete_run(trial)
        client.delete_run(parent)


def test_a_damaged_table_excludes_only_its_run(tracked: TrackedRuns, tmp_path: Path) -> None:
    client = tracked.client
    run = client.create_run(client.get_experiment_by_name("eyegender").experiment_id, run_name="damaged").info.run_id
    client.log_batch(run, params=[Param("model.name", "mobilenet_v2")])
    client.log_dict(run, {"columns": ["name"], "data": [["a"]]}, "test_predictions.json")
    client.set_terminated(run)
    try:
        result = compared(tracked, tmp_path / "page", f"runs=[{run},{tracked.id('first')}]")
        assert result.comparison.left_out == (f"damaged ({run}) stored no test predictions.",)
    finally:
        client.delete_run(run)


def command(tracked: TrackedRuns, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return processes.run("eyegender.compare", tracked.where, *overrides, cwd=folder)


def test_the_command_prints_a_table_and_the_path_of_the_page(tracked: TrackedRuns, tmp_path: Path) -> None:
    done = command(tracked, tmp_path, "output=page", "latency=false", "by=val/loss", "mode=min")
    assert done.returncode == 0, done.stderr
    assert "mobilenet_v2" in done.stdout
    assert "Page     page/comparison.html" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"page"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runs=[nowhere]"], "no run nowhere"),
        (["study=none"], "no run in .* belongs to a study 'none'"),
        (["tracking.experiment=other"], "no experiment 'other'.* known: .*eyegender"),
        (["by=test/accuracy"], "by .*got 'test/accuracy'"),
        (["by=val/luck"], "logged best/val/luck"),
        (["runs=[x]", "study=y"], "cannot both be given"),
        (["tracking.root=nowhere"], "no runs are tracked in nowhere; train first"),
    ],
)
def test_mistakes_are_reported_with_their_repair(
    tracked: TrackedRuns, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared(tracked, tmp_path / "page", *overrides)
    assert not (tmp_path / "page").exists()
