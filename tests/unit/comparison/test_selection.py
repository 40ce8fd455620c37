"""The choice of runs among many: which are compared, which are only counted, and which values of them are read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from eyegender.comparison import selection
from eyegender.comparison.run_record import backbone_name
from eyegender.comparison.selection import best_of_each_backbone, best_runs, select_runs
from eyegender.core.errors import UserError
from eyegender.core.options import CompareOptions
from eyegender.core.schema import parse_as
from eyegender.tracking.location import Location, find_location
from eyegender.tracking.tracking_store import RunSummary, TrackingStore
from tests.composing import compose_config
from tests.stores import give_store


def finished(
    name: str,
    accuracy: float,
    model: str = "mobilenet_v2",
    *,
    tested: bool = True,
    split: str | None = "s1",
    **params: Any,
) -> RunSummary:
    return RunSummary(
        run_id=name,
        experiment_id="1",
        name=name,
        status="FINISHED",
        started=0,
        params={"model.name": model, **params},
        metrics={"best/val/accuracy": accuracy} | ({"test/accuracy": 0.5} if tested else {}),
        tags={"data.source": "celeba"} | ({"split.fingerprint": split} if split else {}),
    )


def selected(*runs: RunSummary) -> list[tuple[str, int | None]]:
    return [(run.run_id, trials) for run, trials in best_of_each_backbone(runs, "val/accuracy", "max")]


def test_best_run_of_each_backbone_with_the_number_of_candidates() -> None:
    runs = finished("a", 0.7), finished("b", 0.9), finished("c", 0.8, "inception_v3")
    assert selected(*runs) == [("b", 2), ("c", 1)]


def test_networks_of_two_libraries_with_one_name_are_two_backbones() -> None:
    target = "eyegender.models.libraries.timm_backbone.TimmBackbone"
    timms = finished("b", 0.9, "resnet50", **{"model.backbone._target_": target})
    assert selected(finished("a", 0.7, "resnet50"), timms) == [("a", 1), ("b", 1)]
    assert [backbone_name(run.params) for run in (finished("a", 0.7), timms)] == [
        "mobilenet_v2",
        "resnet50 (timm)",
    ]


def test_runs_are_ranked_across_sizes_but_not_across_splits() -> None:
    """The fingerprint of the split decides, and not the config: other images or another seed give another split."""
    runs = (
        finished("a", 0.7, **{"data.size": "96"}),
        finished("b", 0.9, **{"data.size": "224"}),
        finished("c", 0.99, split="s2"),
    )
    assert selected(*runs) == [("b", 2), ("c", 1)]


def test_runs_with_different_data_settings_but_equal_splits_are_ranked() -> None:
    runs = (
        finished("a", 0.7, **{"data.reader.root": "here", "data.split.seed": "0"}),
        finished("b", 0.9, **{"data.reader.root": "there"}),
    )
    assert selected(*runs) == [("b", 2)]


def test_runs_without_a_logged_split_are_not_ranked() -> None:
    assert selected(finished("a", 0.7, split=None), finished("b", 0.9, split=None)) == [("a", 1), ("b", 1)]


def test_the_best_tested_run_is_selected_beside_an_untested_best_run() -> None:
    assert selected(finished("a", 0.7), finished("b", 0.9, tested=False)) == [("b", 2), ("a", 2)]


def test_a_metric_that_no_run_logged_is_reported() -> None:
    with pytest.raises(UserError, match="none of 1 runs logged best/val/luck"):
        best_of_each_backbone([finished("a", 0.7)], "val/luck", "max")


def test_of_too_many_runs_the_best_of_each_split_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_RUNS", 3)
    runs = [finished(f"a{i}", 0.9 - i / 100) for i in range(4)]
    runs += [finished("b0", 0.1, split="s2"), finished("b1", 0.05, split="s2")]
    runs += [finished("none", float("nan"))]
    assert [run.run_id for run in best_runs(runs, "val/accuracy", "max")] == ["a0", "b0", "a1"]
    assert [run.run_id for run in best_runs(runs[:3], "val/accuracy", "max")] == ["a0", "a1", "a2"]
    # A loss is better if it is lower.
    assert [run.run_id for run in best_runs(runs[:4], "val/accuracy", "min")] == ["a3", "a2", "a1"]


@pytest.fixture
def location(tmp_path: Path) -> Location:
    give_store(tmp_path / "mlruns")
    return find_location(None, str(tmp_path / "mlruns"))


class Runs:
    """Runs of an experiment and of a study in a real store."""

    def __init__(self, location: Location) -> None:
        self.client = mlflow.MlflowClient(location.uri)
        self.store = TrackingStore(location, self.client)
        self.experiment = self.client.create_experiment("eyegender")

    def add(
        self, name: str, accuracy: float | None, *, status: str = "FINISHED", test: bool = False, **tags: str
    ) -> str:
        tags = {key.replace("_", "."): value for key, value in tags.items()}
        run_id: str = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        self.client.log_param(run_id, "model.name", "mobilenet_v2")
        self.client.log_param(run_id, "model.lr", "0.1")
        if accuracy is not None:
            self.client.log_metric(run_id, "val_best/accuracy", accuracy)
        if test:
            self.client.log_metric(run_id, "test/accuracy", 0.5)
        self.client.set_terminated(run_id, status)
        return run_id

    def select(self, *overrides: str) -> tuple[list[str], tuple[str, ...]]:
        found = select_runs(self.store, parse_as(compose_config(*overrides, name="compare"), CompareOptions))
        return [one.run.info.run_name for one in found.runs], found.omitted


def test_pruned_trials_are_counted_and_not_compared(location: Location) -> None:
    runs = Runs(location)
    for name, pruned in (("one", "false"), ("two", "true"), ("three", "true")):
        runs.add(name, 0.5, study_name="s", pruned=pruned)
    runs.add("failed", None, status="FAILED", study_name="s")
    assert runs.select("study=s", "pick=all") == (["one"], ("2 pruned trials are not compared.",))
    assert runs.select("study=s") == (["one"], ())
    runs.client.delete_run(runs.client.search_runs([runs.experiment], "run_name = 'one'")[0].info.run_id)
    with pytest.raises(UserError, match="study 's' .* has no finished training run, only 2 pruned ones; train first"):
        runs.select("study=s", "pick=all")


def test_all_of_many_runs_are_the_best_and_a_sentence(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_RUNS", 2)
    runs = Runs(location)
    for i, accuracy in enumerate((0.6, 0.9, None, 0.8)):
        runs.add(f"r{i}", accuracy, split_fingerprint="s")
    names, omitted = runs.select("pick=all")
    assert names == ["r1", "r3"]
    assert omitted == ("The 2 best of 4 runs by val/accuracy are compared; the other 2 are not.",)
    with pytest.raises(UserError, match="runs may name at most 2 runs, got 3; give fewer, or study="):
        runs.select("runs=[a,b,c]")


def test_a_database_and_mlflows_search_give_the_same_summaries(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(location)
    runs.add("nan", float("nan"), test=True, study_name="s")
    runs.add("plain", 0.25)
    runs.add("infinite", float("inf"), pruned="true")
    runs.client.delete_run(runs.add("deleted", 0.5))
    other = runs.client.create_experiment("other")
    runs.client.create_run(other, run_name="elsewhere")
    keys: dict[str, Any] = {
        "params": ("model.name", "none"),
        "metrics": ("val_best/accuracy", "test/accuracy"),
        "tags": ("study.name", "pruned"),
    }

    def found() -> list[str]:
        """Without NaN, which is not equal to itself, and in the order of their names."""
        summaries = runs.store.summaries([runs.experiment], **keys)
        return [repr(replace(run, metrics=dict(sorted(run.metrics.items())))) for run in summaries]

    asked = runs.store.summaries([runs.experiment], **keys)
    read = found()
    assert [run.name for run in asked] == ["infinite", "plain", "nan"]
    monkeypatch.setattr("eyegender.tracking.tracking_store._DATABASES", ())
    assert found() == read
    # A database with other tables is searched.
    monkeypatch.undo()
    monkeypatch.setattr("sqlalchemy.table", lambda *_: (_ for _ in ()).throw(RuntimeError("no such table")))
    assert found() == read
