"""Errors of the store: an object is missing only if the store itself reports that."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from eyegender.comparison.comparison import compare
from eyegender.comparison.run_record import load_record
from eyegender.comparison.selection import SelectedRun
from eyegender.core.errors import UserError
from eyegender.registry.promotion import _champion
from eyegender.tracking.location import Location, find_location
from eyegender.tracking.run_artifacts import lost_predictions, read_predictions
from eyegender.tracking.tracking_store import TrackingStore
from tests.stores import give_store

AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED")


@pytest.fixture
def store(tmp_path: Path) -> TrackingStore:
    give_store(tmp_path / "mlruns")
    location = find_location(None, str(tmp_path / "mlruns"))
    return TrackingStore(location, mlflow.MlflowClient(location.uri))


def failing(error: Exception) -> TrackingStore:
    def fail(*_: object, **__: object) -> None:
        raise error

    names = ("get_run", "get_registered_model", "get_model_version", "download_artifacts", "list_artifacts")
    client: Any = SimpleNamespace(**dict.fromkeys(names, fail))
    return TrackingStore(Location("http://u:canary@server", None), client)


def mlflow_error(code: str) -> MlflowException:
    return MlflowException("the server says no", ErrorCode.Value(code))


@pytest.mark.parametrize("environment", [None, "http://environment"])
@pytest.mark.parametrize("given", [None, "sqlite:///elsewhere.db"])
def test_mlflows_global_address_is_restored(
    store: TrackingStore, monkeypatch: pytest.MonkeyPatch, environment: str | None, given: str | None
) -> None:
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", given)
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    before = mlflow.get_tracking_uri()
    with store.as_global():
        assert mlflow.get_tracking_uri() == store.location.uri
    with pytest.raises(RuntimeError), store.as_global():
        raise RuntimeError
    assert mlflow.get_tracking_uri() == before
    assert mlflow.tracking._tracking_service.utils._tracking_uri == given
    assert os.environ.get("MLFLOW_TRACKING_URI") == environment


def test_only_the_registry_decides_that_there_is_no_champion(store: TrackingStore) -> None:
    assert _champion(store, "eyes", "champion") is None
    store.client.create_registered_model("eyes")
    assert _champion(store, "eyes", "champion") is None
    for error in (*map(mlflow_error, AWAY), ConnectionError("refused")):
        with pytest.raises(
            UserError, match=r"the champion of eyes in http://u:\*\*\*@server must be readable"
        ) as caught:
            _champion(failing(error), "eyes", "champion")
        assert "\n" not in str(caught.value)
    version = store.client.create_model_version("eyes", "somewhere")
    store.client.set_registered_model_alias("eyes", "champion", version.version)
    found = _champion(store, "eyes", "champion")
    assert found is not None
    assert found.version == version.version


def test_an_unreachable_store_does_not_mean_a_missing_run(store: TrackingStore) -> None:
    with pytest.raises(UserError, match="no run 0"):
        store.run("0" * 32)
    with pytest.raises(UserError, match="run 1 in .* must be readable, got the server says no"):
        failing(mlflow_error("INTERNAL_ERROR")).run("1")
    with pytest.raises(UserError, match="the artifacts of run 1 in .* must be readable"):
        read_predictions(failing(mlflow_error("INTERNAL_ERROR")), "1")


def test_lost_predictions_differ_from_a_run_without_a_test(store: TrackingStore) -> None:
    client = store.client
    runs = [client.create_run("0", run_name=name).info.run_id for name in ("tested", "plain")]
    client.log_metric(runs[0], "test/accuracy", 0.5)
    lost, none = (load_record(store, SelectedRun(store.run(run)), "val/accuracy", latency=False) for run in runs)
    assert lost.lost is not None
    assert "was tested, but test_predictions.json cannot be read in" in lost.lost
    assert none.lost is None
    assert lost_predictions(store.run(runs[1])) is None
    with pytest.raises(UserError, match="restore the lost ones") as error:
        compare([lost, none])
    assert "was tested, but" in error.value.details[0]
    assert "stored no test predictions" in error.value.details[1]


def test_a_deleted_experiment_is_reported(store: TrackingStore) -> None:
    store.client.delete_experiment(store.client.create_experiment("gone"))
    with pytest.raises(UserError, match="experiment 'gone' .* has been deleted; restore it"):
        store.experiment_id("gone")
