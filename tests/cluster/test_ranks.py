"""Two CPU ranks in one task of a real Slurm: of a run by itself, and of the trials of a sweep's worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import study_status
from tests.composing import TINY
from tests.processes import Command

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RANKS = (*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1")


def test_one_slurm_task_trains_with_two_ranks(cluster: dict[str, str], tmp_path: Path) -> None:
    env = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "eyegender.train", *RANKS, "hydra.run.dir=out"]
    done = subprocess.run(
        ["srun", "--ntasks=1", "--cpus-per-task=2", *command], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    counted = sum(metrics["metrics"][f"test/{name}"] for name in ("tp", "fp", "tn", "fn"))
    assert counted == sum(metrics["data"]["counts"]["test"].values())


def test_a_trial_in_a_slurm_worker_trains_with_two_ranks(cluster: dict[str, str], tmp_path: Path) -> None:
    env = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
    sweep = (
        "+sweeps=cluster", "hydra.launcher.cpus_per_task=2", "hydra.launcher.mem_gb=null",
        "hydra.launcher.timeout_min=10", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=1",
        "hydra/sweeper/pruner=nop",
    )  # fmt: skip
    output, _ = Command("eyegender.train", "-m", *RANKS, *sweep, env=env).communicate(timeout=400)
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "cluster")
    assert (status.counts.complete, status.counts.failed) == (1, 0), output
