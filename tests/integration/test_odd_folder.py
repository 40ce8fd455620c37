"""A sweep in a working folder whose name is full of signs that mean something to Hydra, URLs or SQL."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from eyegender.tracking.location import find_location
from hydra_plugins.optuna_study import study_status
from tests import processes
from tests.composing import TINY
from tests.stores import give_store

pytestmark = pytest.mark.integration


def test_a_sweep_in_a_folder_of_an_odd_name_leaves_all_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a?b #%20 'q\" $x é"
    place.mkdir()
    give_store(place / "mlruns")
    done = processes.run(
        "eyegender.train", "-m", "+sweeps=grid", *TINY, "trainer.max_epochs=1", "model.finetune_depth=choice(0)",
        "model.lr=choice(1e-3)", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
    assert {"mlflow.db", "optuna.db", "artifacts"} <= {path.name for path in (place / "mlruns").iterdir()}
    monkeypatch.chdir(place)
    assert study_status("sqlite:///mlruns/optuna.db", "grid").counts.complete == 1
    client = mlflow.MlflowClient(find_location(None).uri)
    [model] = client.search_logged_models([client.get_experiment_by_name("eyegender").experiment_id])
    assert str(model.status) == "READY"
    files = client.list_logged_model_artifacts(model.model_id, "artifacts/network")
    assert [Path(item.path).name for item in files] == ["card.json", "network.safetensors"]
