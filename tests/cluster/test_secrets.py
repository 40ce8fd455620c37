"""A password each in the storage, the tracking URL, a file and the environment; then a sweep, read to the last byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import optuna
import pytest
import sqlalchemy

from hydra_plugins.optuna_study._storage import with_driver
from tests.cluster.postgres import PASSWORD, Postgres, running
from tests.composing import TINY
from tests.faults.mlflow_server import Server
from tests.planted import assert_nowhere

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(900)]

TRACKING, NAMED, IN_FILE = "tr4ck@ng-pw", "n4med-t0ken", "f1le-pw"
CANARIES = (PASSWORD, TRACKING, NAMED, IN_FILE)

EXPERIMENT = f"""# @package _global_
tracking:
  run_name: a run of http://me:{IN_FILE}@elsewhere
"""


@pytest.fixture(scope="module")
def storage() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("store"))
    server.start()
    yield server
    server.stop()


def train(place: Path, *overrides: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eyegender.train", *overrides, *TINY, "trainer.max_epochs=1"]
    env = {**os.environ, "OWN_TOKEN": NAMED, "PYTHONWARNINGS": "ignore", **(env or {})}
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=560)


def assert_clean(done: subprocess.CompletedProcess[str], *folders: Path) -> None:
    for canary in CANARIES:
        assert canary not in done.stdout + done.stderr
    assert_nowhere(CANARIES, *folders)


def all_rows(url: str) -> str:
    """Every row of every table of a database."""
    engine = sqlalchemy.create_engine(url)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        rows = [row for table in tables.sorted_tables for row in connection.execute(sqlalchemy.select(table))]
    engine.dispose()
    return str(rows)


def test_no_secret_of_a_sweep_is_written_or_shown(tmp_path: Path, storage: Postgres, store: Server) -> None:
    config = tmp_path / "config"
    (config / "experiment").mkdir(parents=True)
    (config / "experiment" / "own.yaml").write_text(EXPERIMENT)
    work = tmp_path / "work"
    work.mkdir()
    address = store.url.replace("//", f"//me:{TRACKING}@")
    done = train(
        work, "-m", "--config-dir", str(config), "+sweeps=grid", "experiment=own", f"tracking.uri={address}",
        f"hydra.sweeper.storage={storage.url}", "model.finetune_depth=choice(0)", "model.lr=choice(1e-3)",
        "model.head=choice(paper,'${oc.env:OWN_TOKEN}')", "+data.note=${oc.env:OWN_TOKEN}",
        "hydra.sweeper.max_failure_rate=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    study = optuna.load_study(study_name="grid", storage=with_driver(storage.url))
    trials = study.trials
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "FAIL"]
    reasons = [attrs for trial in trials for attrs in trial.user_attrs.values() if "unknown head" in str(attrs)]
    assert "***" in str(reasons)
    # The whole of both stores as their own programs write them out, and everything on disk.
    stored = str([(trial.user_attrs, trial.system_attrs, trial.params) for trial in trials])
    stored += str((study.user_attrs, study._storage.get_study_system_attrs(study._study_id)))
    study._storage.remove_session()
    study._storage._backend.engine.dispose()
    stored += all_rows(with_driver(storage.url))
    assert not [canary for canary in CANARIES if canary in stored]
    assert (work / "multirun/grid/0/.hydra/config.yaml").is_file()
    assert_clean(done, work, store.folder)


def test_no_secret_of_a_run_is_written_or_shown(tmp_path: Path) -> None:
    """Its store is unreachable, and the run fails at the end."""
    config = tmp_path / "config"
    (config / "experiment").mkdir(parents=True)
    (config / "experiment" / "own.yaml").write_text(EXPERIMENT)
    work = tmp_path / "work"
    work.mkdir()
    done = train(
        work, "--config-dir", str(config), "experiment=own", f"tracking.uri=http://me:{TRACKING}@127.0.0.1:9",
        "data.split.by=file", "data.split.file=${oc.env:OWN_TOKEN}", "tracking.close_timeout=1",
    )  # fmt: skip
    assert done.returncode == 2
    assert "data.split.file must be a file for data.split.by=file" in done.stderr
    config = next((work / "outputs").rglob(".hydra")) / "config.yaml"
    assert "http://me:${oc.env:" in config.read_text()
    assert "file: ${oc.env:OWN_TOKEN}" in config.read_text()
    assert_clean(done, work)


def test_a_password_that_is_an_ordinary_word_alters_no_name(tmp_path: Path, store: Server) -> None:
    work = tmp_path / "work"
    work.mkdir()
    address = store.url.replace("//", "//me:eyegender@")
    done = train(work, f"tracking.uri={address}", "hydra.run.dir=metrics/test", "+data.note=${oc.env:OWN_TOKEN}",
                 env={"OWN_TOKEN": "artifact"})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tracking is incomplete" not in done.stdout
    assert "me:eyegender@" not in done.stdout + done.stderr
    client = mlflow.MlflowClient(store.url)
    experiment = client.get_experiment_by_name("eyegender")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [run] = [run for run in runs if "metrics/test" in run.data.tags.get("output_dir", "")]
    assert {"metrics.json", "test_predictions.json"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    assert "test/accuracy" in run.data.metrics
    assert run.data.params["tracking.experiment"] == "eyegender"
    assert run.data.params["data.note"] == "***"
    assert "me:eyegender@" not in "".join(path.read_text(errors="ignore") for path in work.rglob("*") if path.is_file())
