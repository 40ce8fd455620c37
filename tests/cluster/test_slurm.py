"""Sweeps whose workers are jobs of a real Slurm."""

import os
import subprocess
import time

import optuna
import pytest

from hydra_plugins.optuna_study import study_status
from hydra_plugins.optuna_study._budget import is_interrupted
from tests.unit.optuna_study.sweeping import load, run, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SLURM = (
    "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10",
    "hydra.sweeper.n_jobs=2", "hydra.sweep.dir=out",
)  # fmt: skip


def test_two_jobs_share_one_study(cluster, tmp_path):
    run(*SLURM, "hydra.sweeper.n_trials=8", "mode=slow", "steps=5", "seconds=0.2", env=cluster)
    trials = load().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    assert len({trial.system_attrs["optuna_study:owner"]["pid"] for trial in trials}) == 2
    assert sorted(int(path.name) for path in (tmp_path / "out").iterdir() if path.name.isdigit()) == list(range(8))


def test_a_cancelled_job_releases_its_trial_and_the_budget_stays_exact(cluster):
    over = (*SLURM, "hydra.sweeper.n_trials=4", "mode=slow", "steps=20", "seconds=0.2", "hydra.sweeper.heartbeat=600")
    process = start(*over, env=cluster)
    job = _until_two_run(cluster)
    subprocess.run(["scancel", job], env={**os.environ, **cluster}, check=True)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    trials = load().trials
    assert [trial.state.name for trial in trials].count("COMPLETE") == 4
    interrupted = [trial for trial in trials if is_interrupted(trial)]
    # Released on the signal itself: with this heartbeat, no other worker would have missed it yet.
    assert [trial.system_attrs["optuna_study:interrupted"]["counted"] for trial in interrupted] == [False]
    assert len(trials) == 4 + len(interrupted)
    again = next(trial for trial in trials if trial.system_attrs.get("retry_history"))
    assert again.params == interrupted[0].params
    assert len(again.intermediate_values) == 20


def test_a_job_killed_without_a_signal_does_not_block_the_sweep(cluster):
    # This Slurm has no accounting: only the queue shows that the job is gone.
    over = (*SLURM, "hydra.sweeper.n_trials=4", "mode=slow", "steps=20", "seconds=0.1", "hydra.sweeper.heartbeat=2")
    process = start(*over, env=cluster)
    job = _until_two_run(cluster)
    subprocess.run(["scancel", "--signal=KILL", "--full", job], env={**os.environ, **cluster}, check=True)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    states = [trial.state.name for trial in load().trials]
    assert states.count("COMPLETE") == 4
    assert states.count("FAIL") == 1


def test_submitted_workers_run_without_the_command(cluster):
    done = run(*SLURM, "hydra.sweeper.n_trials=6", "hydra.sweeper.wait=false", "mode=slow", env=cluster)
    assert "submitted 2 workers" in done.stdout
    end = time.monotonic() + 120
    while time.monotonic() < end and not study_status("sqlite:///study.db", "toy").complete:
        time.sleep(0.5)
    assert study_status("sqlite:///study.db", "toy").counts.finished == 6


def test_another_job_continues_a_paused_trial_also_after_kill_9(cluster, tmp_path):
    run(
        *SLURM, "mode=pauses", "steps=9", "hydra/sweeper/scheduler=promotion", "hydra.sweeper.scheduler.min_resource=1",
        "hydra.sweeper.scheduler.reduction_factor=3", "hydra.sweeper.direction=maximize",
        "hydra.sweeper.n_trials=9", "hydra.sweeper.heartbeat=1", "hydra.sweeper.enqueue=[{x: 5, y: 5}]", env=cluster,
    )  # fmt: skip
    assert (tmp_path / "signalled").read_text() == "0"
    study = study_status("sqlite:///study.db", "toy")
    assert (study.counts.finished, study.counts.paused) == (9, 0)
    assert study.best[0].number == 0
    for trial in study.trials:
        steps = (tmp_path / f"out/{trial.number}/steps").read_text().splitlines()
        assert [int(line.split()[0]) for line in steps] == list(range(1, max(trial.reported) + 1))


def test_a_worker_is_one_task(cluster):
    done = run(*SLURM, "hydra.launcher.tasks_per_node=2", env=cluster, check=1)
    assert "a worker is one process, got 2 tasks" in done.stderr


def _until_two_run(cluster: dict[str, str]) -> str:
    """The name of a job in the middle of a trial."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            running = [t for t in load().trials if t.state == optuna.trial.TrialState.RUNNING]
        except Exception:
            running = []
        if len(running) == 2 and all(len(trial.intermediate_values) > 5 for trial in running):
            listed = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], env={**os.environ, **cluster},
                                    capture_output=True, text=True, check=True)  # fmt: skip
            return listed.stdout.split()[0]
        time.sleep(0.2)
    raise AssertionError("the two jobs did not come to run trials")
