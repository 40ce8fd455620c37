"""Sweeps whose study is in a real PostgreSQL."""

import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from hydra_plugins.optuna_study._storage import LOCK_SECONDS, Storage, storage_spec, with_driver
from tests.unit.optuna_study.proxy import claim_all, proxy_before
from tests.unit.optuna_study.sweeping import run, start

from .postgres import PASSWORD, Postgres, running

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg2")
    with running() as started:
        yield started


def trials(server: Postgres, name: str) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name=name, storage=with_driver(server.url))
    found = study.trials
    study._storage.remove_session()
    study._storage._backend.engine.dispose()
    return found


@pytest.mark.timeout(900)
def test_eight_workers_run_exactly_200_trials(server, tmp_path):
    started = time.monotonic()
    done = run("hydra/launcher=joblib", "hydra.sweeper.n_jobs=8", "hydra.sweeper.n_trials=200",
               "hydra.sweeper.study_name=eight", "hydra.sweeper.storage=${oc.env:STUDY_STORAGE}",
               "hydra.sweeper.sampler.seed=5", "hydra.sweeper.heartbeat=60",
               env={"STUDY_STORAGE": server.url})  # fmt: skip
    print(f"200 trials in {time.monotonic() - started:.1f} s")
    found = trials(server, "eight")
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 200
    assert [trial.number for trial in found] == list(range(200))
    assert len({(trial.params["x"], trial.params["y"]) for trial in found}) == 200
    assert len({trial.system_attrs["optuna_study:owner"]["pid"] for trial in found}) == 8
    assert "Error" not in done.stdout + done.stderr
    no_secret_in(tmp_path, done)


def test_through_a_grpc_proxy_no_trial_is_claimed_twice(server):
    pytest.importorskip("grpc")
    with proxy_before(with_driver(server.url)) as proxy:
        claimed = claim_all(proxy, n_trials=24, workers=4)
    assert sorted(claimed.values()) == [1] * 24
    states = [trial.state.name for trial in trials(server, "shared")]
    assert states.count("COMPLETE") == 24
    assert set(states) <= {"COMPLETE", "WAITING"}


def test_the_lock_is_held_again_right_after_an_outage(server):
    store = Storage(storage_spec(server.url))
    with store.lock("toy") as held:
        assert held
    server.stop()
    server.start()
    with store.lock("toy") as held:
        assert held
    store.close()


@pytest.mark.timeout(600)
def test_workers_wait_and_continue_after_an_outage(server, tmp_path):
    over = ("hydra/launcher=joblib", "hydra.sweeper.n_jobs=4", "hydra.sweeper.n_trials=30", "mode=slow", "steps=8",
            "seconds=0.1", "hydra.sweeper.heartbeat=1", "hydra.sweeper.max_retries=0",
            "hydra.sweeper.study_name=outage", "hydra.sweeper.storage=${oc.env:STUDY_STORAGE}")  # fmt: skip
    process = start(*over, env={"STUDY_STORAGE": server.url})
    for heartbeats in (7, 2):
        _until_finished(server, "outage", more=5)
        server.stop()
        time.sleep(heartbeats)
        server.start()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    found = trials(server, "outage")
    # No worker was declared dead because it could not send heartbeats: no failure, and no retry.
    assert {trial.state.name for trial in found} <= {"COMPLETE", "WAITING"}
    assert [trial.state.name for trial in found].count("COMPLETE") == 30
    assert not any("retry_history" in trial.system_attrs for trial in found)
    completions = sorted(trial.system_attrs["optuna_study:completion"] for trial in found if trial.state.is_finished())
    assert completions == list(range(1, 31))
    assert "Traceback" not in out
    assert PASSWORD not in out


def test_a_command_that_waits_for_the_lock_handles_a_signal(server):
    """Its holder may have been stopped; the database's driver waits without letting Python see signals."""
    import psycopg2

    with psycopg2.connect(server.url) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (zlib.crc32(b"optuna_study held"),))
        process = start("hydra.sweeper.study_name=held", "hydra.sweeper.storage=${oc.env:STUDY_STORAGE}",
                        env={"STUDY_STORAGE": server.url})  # fmt: skip
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(600):
            cursor.execute(waiting)
            if cursor.fetchone() == (1,):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=LOCK_SECONDS - 5)  # the lock is still held
    holder.close()
    assert process.returncode == 128 + signal.SIGTERM, out
    assert "stopped by SIGTERM" in out


def test_a_password_appears_nowhere(server, tmp_path):
    for number, override in enumerate((server.url, "${oc.env:STUDY_STORAGE}")):
        done = run("hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3",
                   f"hydra.sweeper.storage='{override}'", f"hydra.sweeper.study_name=secret{number}",
                   f"hydra.sweep.dir=out{number}", env={"STUDY_STORAGE": server.url})  # fmt: skip
        no_secret_in(tmp_path, done)
    wrong = server.url.replace("/postgres", "/nowhere")
    done = run(f"hydra.sweeper.storage='{wrong}'", check=1)
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr
    no_secret_in(tmp_path, done)


def no_secret_in(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert PASSWORD not in done.stdout + done.stderr
    for path in folder.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def _until_finished(server: Postgres, name: str, more: int) -> None:
    def finished() -> int:
        try:
            return sum(trial.state.is_finished() for trial in trials(server, name))
        except Exception:
            return 0  # not created yet

    wanted, end = finished() + more, time.monotonic() + 120
    while finished() < wanted and time.monotonic() < end:
        time.sleep(0.2)
