"""Jobs that a real Slurm requeues and starts again: the same MLflow run and the same trial resume."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from hydra_plugins.optuna_study import study_status
from tests.composing import TINY
from tests.processes import Command

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EPOCHS = 8
LONG = (*TINY, "data.n=200", f"trainer.max_epochs={EPOCHS}")

# What README's readers would write: the signal before the time limit reaches this shell, which passes it on and asks
# for another start once the checkpoint is there. Slurm looks at its limits only every half a minute, so the test has it
# send the same signal to the same shell at once.
SCRIPT = """#!/bin/bash
#SBATCH --requeue --open-mode=append --output=job.log --time=20 --signal=B:TERM@100
trap 'kill -TERM $child; wait $child; scontrol requeue $SLURM_JOB_ID' TERM
{command} &
child=$!
wait $child
"""


def test_a_run_whose_job_gets_the_signal_before_its_limit_and_is_started_again(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    env = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "eyegender.train", *TINY, "data.n=200", "trainer.max_epochs=$(cat epochs)",
        "scheduler=constant", "hydra.run.dir=out", "run_test=false",
    ]  # fmt: skip
    (tmp_path / "job.sh").write_text(SCRIPT.format(command=" ".join(command)))
    (tmp_path / "epochs").write_text("1000")
    job = said(env, "sbatch", "--parsable", "--ntasks=1", "--mem=0", "job.sh")
    until((tmp_path / "out/checkpoints/last.ckpt").exists, tmp_path)
    said(env, "scancel", "--batch", "--signal=TERM", job)
    until(lambda: "resume with ckpt_path=" in (tmp_path / "job.log").read_text(), tmp_path)
    epochs = (tmp_path / "job.log").read_text().count("\nepoch ") + 4
    (tmp_path / "epochs").write_text(str(epochs))
    started_again(env, job, tmp_path)
    until((tmp_path / "out/metrics.json").exists, tmp_path)
    until(lambda: job not in said(env, "squeue", "-h", "-o", "%i"), tmp_path)
    assert "stopped by signal 15; resume with ckpt_path=" in (tmp_path / "job.log").read_text()
    [run] = runs(tmp_path)
    assert_whole(tmp_path, run, epochs)


def test_a_trial_whose_job_is_requeued(cluster: dict[str, str], tmp_path: Path) -> None:
    env = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
    command = [
        "eyegender.train", "-m", *LONG, "+sweeps=cluster", "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.mem_gb=null", "hydra.launcher.timeout_min=10", "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.n_trials=1", "hydra.sweeper.heartbeat=2", "hydra/sweeper/pruner=nop",
    ]  # fmt: skip
    process = Command(*command, env=env)
    until(lambda: list(tmp_path.glob("multirun/cluster/*/checkpoints/last.ckpt")), tmp_path)
    job = said(env, "squeue", "-h", "-r", "-o", "%i").split()[0]
    said(env, "scontrol", "requeue", job)
    started_again(env, job, tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "cluster")
    assert (status.counts.complete, status.counts.failed) == (1, 0)
    [trial] = [run for run in runs(tmp_path) if "trial.number" in run.data.tags]
    assert_whole(tmp_path, trial, EPOCHS)


def started_again(env: dict[str, str], job: str, folder: Path) -> None:
    """Slurm lets a job that it takes back wait for two minutes; a few seconds do.

    Not none: within the second in which the first start's credential was revoked, slurmd refuses the second.
    """

    def taken_back() -> bool:
        shown = said(env, "scontrol", "show", "job", job)
        return "JobState=PENDING" in shown and "Restarts=1" in shown

    def started_soon() -> bool:
        start = ["scontrol", "update", f"jobid={job}", "starttime=now+4seconds"]
        return subprocess.run(start, env=env, capture_output=True, check=False).returncode == 0

    def running() -> bool:
        shown = said(env, "scontrol", "show", "job", job)
        return "JobState=RUNNING" in shown and "Restarts=1" in shown

    for condition in (taken_back, started_soon, running):
        until(condition, folder)


def said(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def until(condition: Callable[[], object], folder: Path) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, [path.read_text() for path in folder.glob("*.log")]
        time.sleep(0.2)


def runs(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    return list(client.search_runs([client.get_experiment_by_name("eyegender").experiment_id]))


def assert_whole(folder: Path, run: mlflow.entities.Run, epochs: int) -> None:
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    for name in ("accuracy/val", "loss/train", "train/lr"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert steps == list(range(1, epochs + 1)), name
