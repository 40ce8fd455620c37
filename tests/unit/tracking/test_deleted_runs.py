"""Runs and experiments that are deleted in MLflow during a run, or before it is resumed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from eyegender.tracking.client import connect
from eyegender.tracking.journal import Journal
from eyegender.tracking.location import Location
from eyegender.tracking.sender import pending, send
from eyegender.tracking.tracker import Tracker, now_ms
from eyegender.tracking.writer import RunWriter


@pytest.fixture
def client(location: Location) -> MlflowClient:
    return connect(location.uri)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "project" / "run").mkdir()
    (tmp_path / "project" / "run" / "note.txt").write_text("hello")
    return tmp_path / "project" / "run"


def attempt(location: Location, folder: Path, epoch: int, resume: tuple[str, str | None] | None = None) -> Tracker:
    """One attempt at a run that tracks an epoch; the caller closes it."""
    tracker = Tracker(location, folder, experiment="eyegender", name="n", tags={}, resume=resume)
    tracker.log_params({"model.name": "m"}, unless_there=resume is not None)
    tracker.log_metrics({"val/loss": float(epoch)}, step=epoch)
    tracker.log_artifact("note.txt")
    return tracker


def delete_for_good(location: Location, client: MlflowClient, run_id: str) -> None:
    """As `mlflow gc` does."""
    client.delete_run(run_id)
    assert location.database is not None
    with closing(sqlite3.connect(location.database)) as connection:
        for table in ("params", "metrics", "latest_metrics", "tags", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))
        connection.commit()


def steps(client: MlflowClient, run_id: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, "val/loss")]


@pytest.mark.parametrize("deleted", ["run", "experiment"])
def test_a_deleted_run_is_restored_when_it_is_resumed(
    location: Location, client: MlflowClient, folder: Path, caplog: pytest.LogCaptureFixture, deleted: str
) -> None:
    first = attempt(location, folder, 1)
    assert first.close("KILLED", 60)
    assert first.run_id is not None
    experiment = client.get_run(first.run_id).info.experiment_id
    client.delete_run(first.run_id) if deleted == "run" else client.delete_experiment(experiment)
    second = attempt(location, folder, 2, resume=(first.key, first.run_id))
    assert second.close("FINISHED", 60)
    [run] = client.search_runs([experiment])
    assert (run.info.run_id, run.info.lifecycle_stage, run.info.status) == (first.run_id, "active", "FINISHED")
    assert steps(client, first.run_id) == [1, 2]
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    assert caplog.text.count("had been deleted; it is restored") == 1
    assert second.sender.refused == []


def test_a_run_that_is_deleted_while_it_runs_is_restored(
    location: Location, client: MlflowClient, folder: Path
) -> None:
    writer = RunWriter(location.uri, location.artifacts, folder)
    writer.apply({"op": "run", "key": "k", "experiment": "eyegender", "name": "n", "tags": {}, "time": 1})
    assert writer.run_id is not None
    client.delete_run(writer.run_id)
    writer.apply({"op": "metrics", "values": {"val/loss": 1.0}, "step": 1, "time": 2})
    assert client.get_run(writer.run_id).info.lifecycle_stage == "active"
    assert steps(client, writer.run_id) == [1]


def test_a_new_run_restores_its_deleted_experiment(
    location: Location, client: MlflowClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.delete_experiment(client.create_experiment("eyegender"))
    tracker = attempt(location, folder, 1)
    assert tracker.close("FINISHED", 60)
    assert "experiment eyegender had been deleted; it is restored" in caplog.text
    assert client.get_experiment_by_name("eyegender").lifecycle_stage == "active"


def test_a_permanently_deleted_run_continues_as_a_new_one(
    location: Location, client: MlflowClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = attempt(location, folder, 1)
    assert first.close("KILLED", 60)
    assert first.run_id is not None
    experiment = client.get_run(first.run_id).info.experiment_id
    delete_for_good(location, client, first.run_id)
    second = attempt(location, folder, 2, resume=(first.key, first.run_id))
    assert second.close("FINISHED", 60)
    [run] = client.search_runs([experiment], run_view_type=ViewType.ALL)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.name": "m"}
    assert caplog.text.count("no longer exists in the store") == 1


def test_sync_sends_everything_of_a_permanently_deleted_run(
    location: Location, client: MlflowClient, folder: Path
) -> None:
    first = attempt(location, folder, 1)
    assert first.close("KILLED", 60)
    assert first.run_id is not None
    delete_for_good(location, client, first.run_id)
    with Journal(folder) as journal:
        journal.append({"op": "metrics", "values": {"val/loss": 2.0}, "step": 2, "time": now_ms()})
    assert pending(folder) == [folder]
    _, run_id = send(folder, None)
    assert run_id not in {None, first.run_id}
    assert steps(client, str(run_id)) == [1, 2]
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]
    assert pending(folder) == []


def test_sync_restores_a_deleted_run(location: Location, client: MlflowClient, folder: Path) -> None:
    first = attempt(location, folder, 1)
    assert first.close("FINISHED", 60)
    assert first.run_id is not None
    client.delete_run(first.run_id)
    first.journal.mark_sent(0)
    assert send(folder, None)[1] == first.run_id
    assert client.get_run(first.run_id).info.lifecycle_stage == "active"


def test_sync_finds_a_store_that_was_moved_with_its_runs(location: Location, folder: Path, tmp_path: Path) -> None:
    first = attempt(location, folder, 1)
    assert first.close("FINISHED", 60)
    first.journal.mark_sent(0)
    (tmp_path / "project").rename(tmp_path / "moved")
    assert send(tmp_path / "moved" / "run", None)[1] == first.run_id
    assert not (tmp_path / "project").exists()
