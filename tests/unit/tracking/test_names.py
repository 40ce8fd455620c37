"""Metrics have other names in MLflow, whose page sorts by name, and runs of earlier versions are read as before."""

from __future__ import annotations

from pathlib import Path

from eyegender.comparison.run_record import load_record
from eyegender.comparison.selection import SelectedRun, best_of_each_backbone
from eyegender.tracking.location import Location
from eyegender.tracking.names import count_tags, curve_points, final_values, metric_value, read_metrics, stored_name
from eyegender.tracking.tracking_store import TrackingStore
from eyegender.tracking.writer import RunWriter

ROW = {
    "epoch": 2.0, "lr": 0.1, "epoch_seconds": 3.0, "train/loss": 0.5, "train/accuracy": 0.6, "train/tn": 4.0,
    "val/loss": 0.7, "val/accuracy": 0.8, "val/auroc": 0.9, "val/tp": 5.0,
}  # fmt: skip


def groups(names: list[str]) -> list[str]:
    """The groups of MLflow's page in its order, as its Chromium test shows them."""
    return sorted({name.rpartition("/")[0] for name in names if "/" in name})


def test_accuracy_and_loss_come_first_and_curves_and_values_are_in_separate_groups() -> None:
    curves = curve_points(ROW)
    values = final_values({"test/accuracy": 0.5, "test/tp": 3.0, "val/auroc": 0.9, "train/loss": 1.0})
    order = groups([*curves, *values])
    assert order[:2] == ["accuracy", "loss"]
    assert order == ["accuracy", "loss", "test", "train", "val", "val_best"]
    assert not set(groups(list(curves))) & set(groups(list(values)))
    assert next(iter(curves)) == "accuracy/val"  # the first one that is logged is the first one that is compared


def test_counts_of_images_and_the_number_of_the_epoch_are_no_metrics() -> None:
    metrics = {f"test/{name}": float(i) for i, name in enumerate(("tn", "fp", "fn", "tp"))} | {"val/tp": 5.0}
    names = {*curve_points(ROW | metrics), *final_values(metrics)}
    assert not [name for name in names if name.endswith(("/tn", "/fp", "/fn", "/tp", "epoch"))]
    assert count_tags(metrics) == {"confusion.test": "tn 0, fp 1, fn 2, tp 3", "confusion.val": "tp 5"}
    # A class may have such a name.
    assert final_values({"test/recall/tp": 0.5}) == {"test/recall/tp": 0.5}


def test_every_name_is_found_again() -> None:
    names = {**ROW, "test/accuracy": 0.1, "best/val/auroc": 0.2}
    stored = {stored_name(name): value for name, value in names.items()}
    assert len(stored) == len(names)
    assert read_metrics(stored) == names
    assert read_metrics(names) == names  # of an earlier version
    for name, value in names.items():
        assert metric_value(stored, name) == metric_value(names, name) == value
    assert metric_value(stored, "best/val/luck") is None


def test_a_run_of_an_earlier_version_is_read_as_before(location: Location, tmp_path: Path) -> None:
    writers = {}
    for name, better in (("earlier", 0.0), ("now", 0.1)):
        writer = writers[name] = RunWriter(location.uri, location.artifacts, tmp_path / name)
        (tmp_path / name).mkdir()
        writer.apply({"op": "run", "key": name, "experiment": "e", "name": name, "tags": {}, "time": 1})
        writer.apply({"op": "params", "values": {"model.name": f"network of {name}"}})
        for step in (1, 2):
            epoch = {"train/accuracy": 0.1 * step, "val/accuracy": 0.2 * step + better}
            values = epoch if name == "earlier" else curve_points(epoch)
            writer.apply({"op": "metrics", "values": values, "step": step, "time": step})
        final = {"test/accuracy": 0.5, "val/accuracy": 0.4 + better}
        values = {"test/accuracy": 0.5, "best/val/accuracy": 0.4} if name == "earlier" else final_values(final)
        writer.apply({"op": "metrics", "values": values | {"fit_seconds": 7.0}, "step": 2, "time": 3})
        writer.apply({"op": "end", "status": "FINISHED", "time": 4})
    store = TrackingStore(location, writers["now"].client)
    runs = {name: store.run(str(writer.run_id)) for name, writer in writers.items()}
    experiment = next(iter(runs.values())).info.experiment_id
    metrics = ("val_best/accuracy", "best/val/accuracy")
    summaries = store.summaries([experiment], params=("model.name",), metrics=metrics, tags=())
    picked = best_of_each_backbone(summaries, "val/accuracy", "max")
    assert sorted(one.name for one, _ in picked) == ["earlier", "now"]
    for name, run in runs.items():
        record = load_record(store, SelectedRun(run), "val/accuracy", latency=False)
        better = 0.0 if name == "earlier" else 0.1
        assert record.metrics["test/accuracy"] == 0.5
        assert record.metrics["best/val/accuracy"] == 0.4 + better
        assert record.costs.training_seconds == 7.0
        assert record.history == [
            {"train/accuracy": 0.1 * step, "val/accuracy": 0.2 * step + better} for step in (1, 2)
        ]


def test_a_value_replaces_the_one_that_an_earlier_version_logged_at_its_last_epoch(
    location: Location, tmp_path: Path
) -> None:
    for attempt, value in enumerate((0.5, 0.7, 0.7, 0.6)):
        writer = RunWriter(location.uri, location.artifacts, tmp_path)
        writer.apply({"op": "run", "key": "k", "experiment": "e", "name": "n", "tags": {}, "time": 1})
        entry = {"op": "metrics", "values": {"test/accuracy": value}, "step": 3, "time": 10 + attempt}
        writer.apply(entry if attempt == 0 else {**entry, "step": 0, "replaces": True})
        assert writer.client.get_run(str(writer.run_id)).data.metrics["test/accuracy"] == value
    points = writer.client.get_metric_history(str(writer.run_id), "test/accuracy")
    assert [point.value for point in points] == [0.5, 0.7, 0.6]  # an equal one is not logged again
