from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eyegender.tracking import model_logging
from eyegender.tracking.location import Location
from eyegender.tracking.run_artifacts import logged_model
from eyegender.tracking.tracking_store import TrackingStore
from eyegender.tracking.writer import RunWriter


@pytest.mark.parametrize("becomes_better", [False, True])
def test_a_resumed_run_that_improves_logs_its_new_model(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes_better: bool
) -> None:
    def write(target: Path, folder: Path, _described: object) -> None:  # MLflow's own files take seconds
        shutil.copytree(folder / "network", target / "artifacts" / "network")
        (target / "MLmodel").touch()

    monkeypatch.setattr(model_logging, "_write", write)
    writer = RunWriter(location.uri, location.artifacts, tmp_path)
    writer.apply({"op": "run", "key": "k", "experiment": "eyegender", "name": "n", "tags": {}, "time": 1})
    assert writer.run_id is not None
    weights = tmp_path / "model" / "network" / "weights"
    weights.parent.mkdir(parents=True)
    entry = {"op": "model", "path": "model", "params": {}, "metadata": {}}
    weights.write_text("before")
    writer.apply(entry)
    weights.write_text("after" if becomes_better else "before")
    for _ in range(2):  # and what is sent again doubles nothing
        writer.apply(entry)
    store = TrackingStore(location, writer.client)
    model = logged_model(store, writer.run_id)
    assert model is not None
    lies = Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "network" / "weights"
    assert lies.read_text() == weights.read_text()
    found = writer.client.search_logged_models([model.experiment_id], f"source_run_id = '{writer.run_id}'")
    assert len(found) == 1 + becomes_better
