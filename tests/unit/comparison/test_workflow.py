"""The steps of a comparison command: which classes it names, and which images its numbers are from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from rich.console import Console

from eyegender.comparison import run_record
from eyegender.comparison.comparison import Comparison, compare
from eyegender.comparison.selection import SelectedRun
from eyegender.comparison.workflow import ComparisonResult, _classes_to_show, load_records, show_comparison
from eyegender.core.options import CompareOptions
from eyegender.core.schema import parse_as
from eyegender.tracking.location import find_location
from eyegender.tracking.run_artifacts import logged_classes
from eyegender.tracking.tracking_store import TrackingStore
from tests.composing import compose_config
from tests.stores import give_store
from tests.unit.comparison.example_runs import run, table

PETS, CELEBA = ["cats", "dogs"], ["female", "male"]


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ([PETS, PETS], ("cats", "dogs")),
        ([PETS, None], ("cats", "dogs")),
        ([None], ("female", "male")),
        ([PETS, CELEBA], ("label 0", "label 1")),
    ],
)
def test_runs_with_different_classes_get_label_numbers(
    logged: list[list[str] | None], expected: tuple[str, str]
) -> None:
    def run(names: list[str] | None) -> Any:
        profile = json.dumps({} if names is None else {"classes": names})
        entry = SimpleNamespace(dataset=SimpleNamespace(profile=profile))
        return SimpleNamespace(inputs=SimpleNamespace(dataset_inputs=[entry]))

    records: Any = [SimpleNamespace(classes=logged_classes(run(names))) for names in logged]
    assert _classes_to_show(records) == expected


class Runs:
    """Runs with tables of predictions in a real store."""

    def __init__(self, folder: Path) -> None:
        give_store(folder / "mlruns")
        self.folder, location = folder, find_location(None, str(folder / "mlruns"))
        self.client = mlflow.MlflowClient(location.uri)
        self.store = TrackingStore(location, self.client)

    def add(self, *parts: str, only_in_folder: bool = False, damaged: bool = False) -> SelectedRun:
        run_id = self.client.create_run("0").info.run_id
        self.client.log_param(run_id, "model.name", "mobilenet_v2")
        if "test" in parts:
            self.client.log_metric(run_id, "test/accuracy", 0.5)
        for part in parts:
            content = '{"columns": [' if damaged else json.dumps(table(1, 1.0).to_table())
            if only_in_folder:
                output = self.folder / run_id
                output.mkdir()
                (output / "run.json").write_text(json.dumps({"run_id": run_id}))
                (output / f"{part}_predictions.json").write_text(content)
                self.client.set_tag(run_id, "output_dir", str(output))
            else:
                self.client.log_text(run_id, content, f"{part}_predictions.json")
        return SelectedRun(self.store.run(run_id))

    def part(self, *selected: SelectedRun, overrides: tuple[str, ...] = ("runs=[x]",)) -> tuple[str, int]:
        """The part that is compared, and how many of the runs have predictions for it."""
        options = parse_as(compose_config("latency=false", *overrides, name="compare"), CompareOptions)
        part, records = load_records(self.store, selected, options)
        return part, sum(record.predictions is not None for record in records)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_the_test_images_are_used_if_all_runs_were_tested(runs: Runs) -> None:
    tested = [runs.add("test", "val") for _ in range(2)]
    assert runs.part(*tested) == ("test", 2)
    assert runs.part(*tested, overrides=("runs=[x]", "split=val")) == ("val", 2)


def test_trials_that_were_not_tested_are_compared_by_their_validation(runs: Runs) -> None:
    trials = [runs.add("val") for _ in range(2)]
    assert runs.part(*trials) == ("val", 2)
    mixed = [*trials, runs.add("test", "val")]
    for overrides in (("runs=[x]",), ("study=s", "pick=all"), ("pick=all",)):
        assert runs.part(*mixed, overrides=overrides) == ("val", 3)
    assert runs.part(*mixed, overrides=("runs=[x]", "split=test")) == ("test", 1)
    # The best of each backbone are asked for to compare tests; with none, there is nothing else.
    assert runs.part(*mixed, overrides=("pick=best",)) == ("test", 1)
    assert runs.part(*trials, overrides=("pick=best",)) == ("val", 2)


def test_the_images_with_more_predictions_win_and_the_test_wins_ties(runs: Runs) -> None:
    old = [runs.add("test") for _ in range(2)]  # of a version that stored no validation predictions
    assert runs.part(*old, runs.add("val")) == ("test", 2)
    assert runs.part(old[0], runs.add("val")) == ("test", 1)
    assert runs.part(old[0], runs.add("val"), runs.add("val")) == ("val", 2)


def test_damaged_and_missing_tables_do_not_count(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    good, damaged, missing = runs.add("val"), runs.add("val", damaged=True), runs.add()
    assert runs.part(good, damaged, missing) == ("val", 1)
    assert "its table of validation predictions cannot be read" in caplog.text


def test_trials_of_earlier_versions_have_their_predictions_in_their_folder(runs: Runs) -> None:
    trial = runs.add("val", only_in_folder=True)
    assert runs.part(trial) == ("val", 1)
    run_id = trial.run.info.run_id
    (runs.folder / run_id / "run.json").write_text(json.dumps({"run_id": "of another run"}))
    assert runs.part(trial) == ("test", 0)


def test_records_are_loaded_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    real = run_record._load_costs
    monkeypatch.setattr(
        run_record,
        "_load_costs",
        lambda store, run, *a, **k: measured.append(run.info.run_id) or real(store, run, *a, **k),
    )
    selected = [runs.add("val"), runs.add("test", "val")]
    runs.part(*selected)
    assert len(measured) == 2


def printed(comparison: Comparison, folder: Path, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show_comparison(ComparisonResult(comparison, folder, "0" * 32), console)
    return console.export_text()


def test_the_terminal_shows_labels_and_marks_validation_numbers(tmp_path: Path) -> None:
    records = [run(f"name {i} [bold]of a user", table(i, 1.0), tags={"synthetic": "true"}) for i in range(25)]
    text = printed(
        compare(records, part="val", left_out=["9 pruned trials are not compared."], n_resamples=100), tmp_path
    )
    assert "Validation set, 95% intervals" in text
    assert "group" not in text.partition("\n\n")[0]  # there is one
    assert "[bold]of" in text
    assert "The page shows 5 more runs." in text
    assert "Left out: 9 pruned trials are not compared." in text
    table_lines = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert all(len(line) <= 80 for line in table_lines)
    others = [run("other", table(1, 1.0, first=600))]
    text = printed(compare([*records[:2], *others], n_resamples=100), tmp_path, 120)
    assert "Test set, 95% intervals" in text
    assert " group " in text
