"""Real trainings as the trials of Slurm jobs: one is cancelled, and its trial resumes in another."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import mlflow
import pytest

from hydra_plugins.optuna_study import study_status
from tests.composing import TINY
from tests.processes import Command

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

COMMAND = (
    *TINY, "+sweeps=cluster", "data.n=200", "trainer.max_epochs=8", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=null", "hydra.launcher.timeout_min=10", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=4",
    "hydra.sweeper.heartbeat=2", "hydra/sweeper/scheduler=none",
)  # fmt: skip


def test_a_cancelled_job_costs_neither_a_trial_nor_an_epoch(cluster: dict[str, str], tmp_path: Path) -> None:
    env = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
    process = Command("eyegender.train", "-m", *COMMAND, env=env)
    first = tmp_path / "multirun/cluster"
    end = time.monotonic() + 300
    while not list(first.glob("*/checkpoints/last.ckpt")) and time.monotonic() < end and process.returncode is None:
        time.sleep(0.2)
    listed = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], env=env, capture_output=True, text=True, check=True)
    subprocess.run(["scancel", listed.stdout.split()[0]], env=env, check=True)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output

    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "cluster")
    assert (status.counts.complete, status.counts.failed) == (4, 0)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id])
    trials = [run for run in runs if "trial.number" in run.data.tags]
    assert len(trials) == 4
    for trial in trials:
        assert trial.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(trial.info.run_id, "accuracy/val")]
        assert steps == list(range(1, 9))
    assert sum("test/accuracy" in trial.data.metrics for trial in trials) == 1
