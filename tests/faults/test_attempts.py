"""Several attempts at one run, sent to a real MLflow server in any order and repeatedly."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest

from eyegender.tracking.journal import JOURNAL
from eyegender.tracking.location import Location
from eyegender.tracking.sender import pending, send
from eyegender.tracking.tracker import Tracker
from tests.faults.mlflow_server import Server, free_port

pytestmark = pytest.mark.integration


def attempt(folder: Path, uri: str, epochs: range, status: str, key: str | None = None, seconds: float = 0) -> str:
    """Journal some epochs; returns the key of the run."""
    folder.mkdir(exist_ok=True)
    tracker = Tracker(
        Location(uri, None), folder, experiment="attempts", name="x", tags={}, resume=(key, None) if key else None
    )
    for epoch in epochs:
        tracker.log_metrics({"val/loss": 1 / epoch, "lr": 0.1}, step=epoch)
    tracker.close(status, seconds)
    return tracker.key


def found(server: Server, key: str) -> tuple[str, dict[str, list[int]]]:
    client = mlflow.MlflowClient(server.url)
    experiment = client.get_experiment_by_name("attempts").experiment_id
    [run] = client.search_runs([experiment], f"tags.`eyegender.key` = '{key}'")
    steps = {
        name: sorted(p.step for p in client.get_metric_history(run.info.run_id, name)) for name in ("val/loss", "lr")
    }
    return run.info.status, steps


def test_an_older_attempt_that_is_sent_last_fills_its_gap_only(server: Server, tmp_path: Path) -> None:
    server.start()
    nowhere = f"http://127.0.0.1:{free_port()}"
    key = attempt(tmp_path / "a", nowhere, range(1, 4), "KILLED")
    attempt(tmp_path / "b", server.url, range(3, 6), "FINISHED", key, seconds=60)  # epoch 3 once more
    assert found(server, key)[1]["val/loss"] == [3, 4, 5]
    send(tmp_path / "a", server.url)
    every = list(range(1, 6))
    assert found(server, key) == ("FINISHED", {"val/loss": every, "lr": every})


def test_a_repeated_epoch_is_stored_once(server: Server, tmp_path: Path) -> None:
    server.start()
    key = attempt(tmp_path / "a", server.url, range(1, 4), "KILLED", seconds=60)
    attempt(tmp_path / "a", server.url, range(3, 5), "FINISHED", key, seconds=60)
    # The cursor is lost and run.json is damaged, as after a power failure.
    (tmp_path / "a" / "tracking.sent").unlink()
    (tmp_path / "a" / "run.json").write_text("")
    send(tmp_path / "a", None)
    every = list(range(1, 5))
    assert found(server, key) == ("FINISHED", {"val/loss": every, "lr": every})
    assert pending(tmp_path) == []


def test_a_refused_metric_does_not_affect_others(server: Server, tmp_path: Path) -> None:
    server.start()
    key = attempt(tmp_path / "a", f"http://127.0.0.1:{free_port()}", range(1, 6), "FINISHED")
    journal = tmp_path / "a" / JOURNAL
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[3]["values"] = {"no such name: ?!\u0000": 1.0}
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    send(tmp_path / "a", server.url)
    assert found(server, key) == ("FINISHED", {"val/loss": [1, 2, 4, 5], "lr": [1, 2, 4, 5]})
