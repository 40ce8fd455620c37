"""Several workers in processes of their own, and what becomes of their trials when they die."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import study_status
from hydra_plugins.optuna_study._budget import OWNER, is_interrupted

from .sweeping import load, run, start, states

JOBLIB = "hydra/launcher=joblib"


@pytest.mark.integration
@pytest.mark.parametrize(("workers", "storage"), [(4, "sqlite:///study.db"), (2, "journal://study.log")])
def test_workers_share_one_budget(workers, storage):
    run(JOBLIB, f"hydra.sweeper.n_jobs={workers}", "hydra.sweeper.n_trials=24", f"hydra.sweeper.storage={storage}",
        "mode=slow", "steps=1")  # fmt: skip
    status = study_status(storage, "toy")
    assert [row.state for row in status.trials] == ["complete"] * 24
    assert len({row.params["x"] for row in status.trials}) == 24


@pytest.mark.integration
def test_workers_share_a_grid_without_repeating_a_value():
    run(JOBLIB, "hydra.sweeper.n_jobs=4", "hydra/sweeper/sampler=grid", "x=range(0,5)", "y=range(0,4)",
        "hydra.sweeper.n_trials=99")  # fmt: skip
    assert states() == ["COMPLETE"] * 20
    assert len({(trial.params["x"], trial.params["y"]) for trial in load().trials}) == 20


@pytest.mark.integration
def test_first_values_of_workers_with_one_seed_differ():
    run(JOBLIB, "hydra.sweeper.n_jobs=4", "hydra.sweeper.n_trials=8", "hydra.sweeper.sampler.seed=3", "mode=slow")
    assert len({trial.params["x"] for trial in load().trials}) == 8


@pytest.mark.integration
def test_a_trial_whose_worker_dies_resumes_in_another_worker():
    run(JOBLIB, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2", "mode=die_once")
    rows = study_status("sqlite:///study.db", "toy").trials
    assert [row.state for row in rows] == ["complete"] * 2
    # joblib kills a dead worker's neighbours too, perhaps before they reported anything.
    assert all(row.attempt >= 1 for row in rows)
    assert any(0 in row.reported for row in rows)


@pytest.mark.integration
def test_a_trial_that_always_kills_its_worker_fails():
    done = run(JOBLIB, "hydra.sweeper.n_trials=1", "mode=die", "hydra.sweeper.max_retries=1", check=1)
    trials = load().trials
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    assert [is_interrupted(trial) for trial in trials] == [True, False]
    assert "its worker died, 2 times" in done.stdout


@pytest.mark.integration
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_signal_releases_the_running_trial_at_once(launcher, signum):
    over = (f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=2", "mode=slow", "steps=50", "seconds=0.05",
            "hydra.sweeper.heartbeat=600", "hydra.sweeper.max_retries=0")  # fmt: skip
    process = start(*over)
    _until(lambda: any(len(t.intermediate_values) > 3 for t in load().trials))
    process.send_signal(signum)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "run the same command again to continue the study" in out
    first = load().trials[0]
    assert is_interrupted(first)
    reported = len(first.intermediate_values)
    run(*over)
    finished = [trial for trial in load().trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 2
    again = finished[0]
    # Its steps were not repeated: the second attempt began after the last one reported.
    assert again.params == first.params
    assert len(again.intermediate_values) == 50
    assert reported < 50


@pytest.mark.integration
@pytest.mark.parametrize(
    ("launcher", "signum", "whole_group"),
    [
        ("basic", signal.SIGTERM, False),
        ("joblib", signal.SIGTERM, False),
        ("joblib", signal.SIGINT, True),
        ("submitit_local", signal.SIGTERM, False),  # on Ctrl-C submitit itself kills its local jobs after a second
    ],
)
def test_after_a_signal_to_the_command_its_workers_write_their_checkpoints(launcher, signum, whole_group):
    """Ctrl-C in a terminal reaches the workers, too; they must not mistake the forwarded signal for a second one."""
    workers = 1 if launcher == "basic" else 2
    process = start(f"hydra/launcher={launcher}", f"hydra.sweeper.n_jobs={workers}", "mode=saves", "seconds=2",
                    "hydra.sweeper.n_trials=4", "hydra.sweep.dir=out", session=True)  # fmt: skip
    _until(lambda: sum(len(trial.intermediate_values) for trial in load().trials) == workers)
    if whole_group:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, out
    assert len(list(Path("out").glob("*/checkpoint"))) == workers
    released = [trial for trial in load().trials if trial.state.name == "FAIL"]
    assert len(released) == workers
    assert not any(trial.system_attrs["optuna_study:interrupted"]["counted"] for trial in released)
    assert "Traceback" not in out
    assert not _workers()


@pytest.mark.integration
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_second_signal_ends_at_once_and_loses_no_trial(launcher):
    process = start(f"hydra/launcher={launcher}", "mode=saves", "seconds=300", "hydra.sweeper.n_trials=2")
    _until(lambda: any(trial.intermediate_values for trial in load().trials))
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.returncode is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert is_interrupted(load().trials[0])
    assert not load().trials[0].system_attrs["optuna_study:interrupted"]["counted"]


@pytest.mark.integration
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_command_whose_workers_wait_for_others_ends_on_a_signal(launcher):
    busy = start("mode=slow", "steps=1", "seconds=600", "hydra.sweeper.n_trials=1")
    _until(_workers)
    idle = start(f"hydra/launcher={launcher}", "mode=slow", "steps=1", "seconds=600", "hydra.sweeper.n_trials=1")
    _until(lambda: "worker(s) through" in idle.said())
    time.sleep(3)  # its worker has started and found no trial
    idle.send_signal(signal.SIGTERM)
    out, _ = idle.communicate(timeout=60)
    assert idle.returncode == 128 + signal.SIGTERM, out
    assert states() == ["RUNNING"]
    busy.send_signal(signal.SIGTERM)
    busy.communicate(timeout=60)


@pytest.mark.integration
def test_a_worker_that_was_only_slow_drops_its_trial_and_continues():
    over = ("hydra.sweeper.n_trials=3", "mode=slow", "steps=20", "seconds=0.1", "hydra.sweeper.heartbeat=0.3")
    slow = start(*over)
    _until(lambda: any(len(t.intermediate_values) > 1 for t in load().trials))
    slow.send_signal(signal.SIGSTOP)  # silent, but not gone
    run(*over)
    slow.send_signal(signal.SIGCONT)
    out, _ = slow.communicate(timeout=60)
    assert slow.returncode == 0, out
    assert [trial.state.name for trial in load().trials].count("COMPLETE") == 3
    assert "Traceback" not in out


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0])
def test_kill_9_at_any_moment_loses_and_repeats_nothing(seed):
    """Ten kills over one study of cheap trials: half of them while a trial runs, half at any time of the start."""
    chance = random.Random(seed)
    over = (JOBLIB, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=30", "mode=slow", "steps=4", "seconds=0.1",
            "hydra.sweeper.heartbeat=0.5", "hydra.sweeper.max_retries=50")  # fmt: skip
    finished: dict[int, float] = {}
    kills = 0
    process = None
    while kills < 10:
        if process is None or process.returncode is not None:
            if process is not None and process.returncode == 0:
                break
            process = start(*over)
        if chance.random() < 0.5:
            _until(lambda running=process: _workers() or running.returncode is not None)
            time.sleep(chance.uniform(0, 0.5))
        else:
            time.sleep(chance.uniform(0.1, 1.5))
        try:
            trials = load().trials
        except KeyError:
            trials = []
        for trial in trials:
            if trial.state.name == "COMPLETE":
                # What was finished once stays as it was.
                assert finished.setdefault(trial.number, trial.value) == trial.value
        workers = _workers()
        target = process.pid if not workers or chance.random() < 0.4 else chance.choice(workers)
        try:
            os.kill(target, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            continue
    if process is not None:
        process.communicate()
    run(*over)
    trials = load().trials
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert kills == 10
    assert len(complete) == 30
    assert finished == {t.number: t.value for t in complete if t.number in finished}
    assert len({trial.params["x"] for trial in complete}) == 30
    assert {trial.state.name for trial in trials} == {"COMPLETE", "FAIL"}
    assert all(is_interrupted(trial) for trial in trials if trial.state.name == "FAIL")


def _workers() -> list[int]:
    """Processes that live and run a trial."""
    try:
        trials = load().trials
    except KeyError:
        return []
    owners = [t.system_attrs[OWNER]["pid"] for t in trials if t.state.name == "RUNNING" and OWNER in t.system_attrs]
    return [pid for pid in owners if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except Exception:
            pass  # the study does not exist yet
        time.sleep(0.1)
    raise AssertionError("it did not come about")
