"""Runs, models and studies of earlier versions, made by the code of those versions, go on in this one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from hydra_plugins.optuna_study import study_status
from tests.composing import TINY
from tests.processes import run
from tests.stores import give_store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
# The last commit with `model.schedule`, and the last one before modules and keys got the names that they have now.
EARLIER = {"before config groups for optimizers": "3a87381", "before the modules moved": "489e4a7"}
EPOCHS = 12


@pytest.fixture(scope="module", params=EARLIER.values(), ids=EARLIER.keys())
def code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree of an earlier commit."""
    packed = subprocess.run(["git", "archive", request.param], cwd=ROOT, capture_output=True)
    if packed.returncode:
        pytest.skip(f"commit {request.param} is not in this checkout: {packed.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def start(code: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "eyegender.train", *arguments, *TINY]
    with (folder / "earlier.log").open("w") as output:
        return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=output, stderr=output)


def client_of(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")


def runs_of(folder: Path) -> list[mlflow.entities.Run]:
    client = client_of(folder)
    return list(client.search_runs([client.get_experiment_by_name("eyegender").experiment_id]))


def test_a_run_that_was_killed_continues_and_its_last_checkpoint_is_read(code: Path, tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")
    options = ("features=off", "model.finetune_depth=2", f"trainer.max_epochs={EPOCHS}")
    process = start(code, tmp_path, *options, "hydra.run.dir=run")
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None, (tmp_path / "earlier.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()

    done = run("eyegender.train", *TINY, *options, "hydra.run.dir=run", f"ckpt_path={checkpoint}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [tracked] = runs_of(tmp_path)
    assert tracked.info.status == "FINISHED"
    history = client_of(tmp_path).get_metric_history(tracked.info.run_id, "loss/val")
    assert [point.step for point in history] == list(range(1, EPOCHS + 1))
    assert "test/accuracy" in tracked.data.metrics


@pytest.mark.filterwarnings("ignore:.*type hint")  # MLflow says it of every model that takes arrays
def test_a_study_continues_and_its_models_are_loaded(code: Path, tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")
    sweep = ("-m", "+sweeps=finetune", "trainer.max_epochs=1", "model.head_lr=0.01")
    process = start(code, tmp_path, *sweep, "hydra.sweeper.n_trials=2")
    process.wait(timeout=400)
    assert process.returncode == 0, (tmp_path / "earlier.log").read_text()
    before = {tracked.info.run_id for tracked in runs_of(tmp_path)}

    done = run("eyegender.train", *sweep, *TINY, "hydra.sweeper.n_trials=4", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    states = [row.state for row in status.trials]
    assert states[:2] == ["complete"] * 2
    assert len(states) == 4
    assert set(states) <= {"complete", "pruned"}  # the new trials pause, which earlier versions did not
    after = {tracked.info.run_id: tracked for tracked in runs_of(tmp_path)}
    assert before < set(after)
    assert len(after) == 5  # the study and its four trials
    models = [name for name in before if any(item.path == "model" for item in client_of(tmp_path).list_artifacts(name))]
    models = models or [name for name in before if after[name].outputs and after[name].outputs.model_outputs]
    assert models
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    for name in models:
        probabilities = mlflow.pyfunc.load_model(f"runs:/{name}/model").predict(np.zeros((2, 40, 40), np.uint8))
        assert probabilities.shape == (2,)
        assert ((probabilities > 0) & (probabilities < 1)).all()
