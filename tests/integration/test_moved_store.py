"""A project folder that is copied and then moved: its runs can be used at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils

from eyegender import compare, evaluate, predict, promote
from eyegender.tracking.location import find_location
from eyegender.tracking.tracking_store import TrackingStore
from eyegender.training.run import train
from tests.composing import tiny_config
from tests.integration.conftest import SAME, TrackedRuns
from tests.integration.test_planted import exit_code
from tests.integration.test_use import eyes

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _clear_cached_addresses() -> Iterator[None]:
    """MLflow caches the addresses of artifacts by the run's id for the whole process; here they are those of a copy."""
    yield
    utils._artifact_repos_cache.clear()


def test_a_moved_project_compares_evaluates_predicts_promotes_and_trains(
    tracked: TrackedRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tracked.folder / "mlruns", tmp_path / "copy" / "mlruns")
    original = {path: path.stat().st_mtime_ns for path in tracked.folder.rglob("*") if "mlflow.lock" not in path.name}
    runs = [tracked.id("first"), tracked.id("second")]
    assert exit_code(compare, f"tracking.root={tmp_path}/copy/mlruns", f"runs=[{','.join(runs)}]", "latency=false") == 0
    project = tmp_path / "moved %20 here"
    (tmp_path / "copy").rename(project)
    where = f"tracking.root='{project}/mlruns'"
    eyes(tmp_path / "images", 2)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    assert exit_code(predict, where, f"model=runs:/{runs[0]}", "images=images", "output=p.csv") == 0
    assert exit_code(evaluate, where, f"model=runs:/{runs[0]}") == 0
    assert exit_code(promote, where, f"run={runs[0]}", "name=moved", "force=true") == 0
    output = capsys.readouterr()
    assert "no test predictions" not in output.out + output.err
    more = train(tiny_config(*SAME, where), tmp_path / "more")
    assert more.run_id is not None
    location = find_location(None, f"{project}/mlruns")
    client = mlflow.MlflowClient(location.uri)
    assert client.get_run(more.run_id).info.artifact_uri.startswith(str(location.artifacts))
    [model] = client.search_logged_models([client.get_run(runs[0]).info.experiment_id], f"source_run_id = '{runs[0]}'")
    with TrackingStore(location, client).as_global():  # as if MLFLOW_TRACKING_URI were set
        found = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=str(tmp_path / "downloaded"))
    assert json.loads((Path(found) / "artifacts/network/card.json").read_text())["size"] == 32
    assert not (tmp_path / "copy").exists()
    # The original is unchanged, and so are its addresses.
    assert {path: path.stat().st_mtime_ns for path in original} == original
    assert tracked.client.get_run(runs[0]).info.artifact_uri.startswith(tracked.folder.as_uri())
