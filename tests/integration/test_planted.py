"""Untrusted models and configs, in every place from which a command reads one."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from eyegender import compare, evaluate, export, predict, promote, train
from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig
from eyegender.inference.load import load_model
from eyegender.studies.winner import evaluate_winner, retrain_command
from eyegender.tracking.journal import Journal
from eyegender.tracking.sender import send
from eyegender.training.build import build_model
from tests.composing import tiny_config
from tests.integration.conftest import TrackedRuns
from tests.integration.test_use import eyes, tracking
from tests.planted import forms

pytestmark = pytest.mark.integration

MLMODEL = """artifact_path: model
flavors:
  python_function:
    loader_module: mlflow.pyfunc.model
    python_model: python_model.pkl
    artifacts: {network: {path: artifacts/network, uri: nowhere}}
    cloudpickle_version: 3.1.1
    python_version: 3.11.7
    env: {virtualenv: python_env.yaml}
mlflow_version: 3.0.0
"""


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def stranger(tracked: TrackedRuns, tmp_path: Path, canary: Path, request: pytest.FixtureRequest) -> str:
    """A finished run whose logged model holds pickles wherever a model may; registered under a name of its own."""
    client = tracked.client
    first = client.get_run(tracked.id("first"))
    run = client.create_run(first.info.experiment_id).info.run_id
    for name, value in first.data.params.items():
        client.log_param(run, name, value)
    for name in ("config.yaml", "test_predictions.json"):
        client.log_artifact(run, str(tracked.folder / "first" / name))
    client.set_terminated(run)
    model = client.create_logged_model(first.info.experiment_id, name="model", source_run_id=run)
    folder = tmp_path / "stranger"
    (folder / "artifacts" / "network").mkdir(parents=True)
    bad = forms(canary)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "python_model.pkl").write_bytes(bad["pickle"])
    (folder / "data.pt2").write_bytes(bad["torch"])
    if request.param == "planted":  # looks like one of ours
        card = next(tracked.folder.glob("first/model/network/card.json"))
        (folder / "artifacts" / "network" / "card.json").write_bytes(card.read_bytes())
        (folder / "artifacts" / "network" / "network.safetensors").write_bytes(bad["torch"])
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    name = f"stranger-{request.param}"
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    # MLflow looks the model up in the process's own store, which an earlier test may have changed.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", tracked.uri)
        version = client.create_model_version(name, f"models:/{model.model_id}", run_id=run, model_id=model.model_id)
    client.set_registered_model_alias(name, "champion", version.version)
    return run


def exit_code(command: object, *arguments: str) -> int:
    """The exit code of a command in this process; its changes to Hydra's registries are undone."""
    Plugins.instance()
    store = ConfigStore.instance()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "repo", copy.deepcopy(store.repo))
        patch.setattr(sys, "argv", ["eyegender", *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
        for name in ("HYDRA_FULL_ERROR", "EYEGENDER_SET_FULL_ERROR"):
            patch.delenv(name, raising=False)
        try:
            command.main()  # type: ignore[attr-defined]
        except SystemExit as stopped:
            return int(stopped.code or 0)
        finally:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


@pytest.mark.parametrize("stranger", ["planted", "foreign"], indirect=True)
def test_no_command_runs_a_strangers_model(
    tracked: TrackedRuns,
    stranger: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    name = next(iter(tracked.client.search_model_versions(f"run_id = '{stranger}'"))).name
    eyes(tmp_path / "images", 2)
    for reference in (f"runs:/{stranger}", f"models:/{name}@champion", f"models:/{name}/1"):
        with pytest.raises(UserError, match="no readable|holds no readable network"):
            load_model(reference, tracking(tracked))
    for command, arguments in (
        (predict, [f"model=runs:/{stranger}", "images=images"]),
        (evaluate, [f"model=models:/{name}@champion"]),
        (export, [f"model=runs:/{stranger}"]),
    ):
        capsys.readouterr()
        assert exit_code(command, tracked.where, *arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    # These two read what the run stored, and measure its model if they can.
    assert exit_code(promote, tracked.where, f"run={stranger}", "name=mine", "force=true") in {0, 2}
    assert exit_code(compare, tracked.where, f"runs=[{stranger},{tracked.id('first')}]", "latency=false") in {0, 2}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_no_training_resumes_from_a_strangers_checkpoint(
    tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (tmp_path / "last.ckpt").write_bytes(forms(canary)[form])
    assert exit_code(train, "ckpt_path=last.ckpt", "data.n=20", "data.size=32", "model.weights=null") == 2
    assert "last.ckpt" in capsys.readouterr().err


def test_hydras_own_unpickling_is_refused(tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.pickle").write_bytes(forms(canary)["pickle"])
    assert exit_code(train, "--experimental-rerun", "config.pickle") == 2
    assert exit_code(predict, "--experimental-r=config.pickle") == 2
    assert "would run whatever code its file holds" in capsys.readouterr().err


TARGETS = [("model", "backbone", "os.system"), ("data", "reader", "subprocess.Popen"),
           ("data", "reader", "eyegender.tracking.location.Path"),
           ("data", "reader", "eyegender.models.mobilenet_v2.MobileNetV2")]  # fmt: skip


@pytest.fixture(scope="module")
def untrained() -> tuple[TrainConfig, dict[str, object]]:
    """A config and a checkpoint that fits it."""
    cfg = tiny_config("tracking.root=mlruns")
    built = build_model(cfg, classes=("female", "male"), weights=1.0)
    return cfg, {"state_dict": built.classifier.state_dict()}


@pytest.mark.parametrize(("group", "part", "target"), TARGETS)
def test_a_planted_target_is_refused(
    untrained: tuple[TrainConfig, dict[str, object]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    group: str,
    part: str,
    target: str,
) -> None:
    cfg, checkpoint = untrained
    folder = tmp_path / "trial"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    best = folder / "checkpoints" / "best.ckpt"
    torch.save(checkpoint, best)
    config = cfg.model_dump(mode="json", by_alias=True)
    config[group][part] = {"_target_": target, "args": "touch canary"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".hydra" / "overrides.yaml").write_text(f"['{group}.{part}._target_={target}']")
    # 1. The config that lies beside a checkpoint.
    assert exit_code(evaluate, f"model={best}") == 2
    eyes(tmp_path / "images", 1)
    # A prediction reads no data set, so the config of the data does not matter.
    assert exit_code(predict, f"model={best}", "images=images") == (0 if group == "data" else 2)
    # 2. A sweep's winner: its one test, and the command that trains it again.
    with pytest.raises(UserError, match="_target_|only classes of eyegender|takes no arguments"):
        evaluate_winner(folder, None, str(tmp_path / "mlruns"))
    assert exit_code(train, *retrain_command(folder).split()[2:]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("eyegender: ") for line in lines), lines
    assert not Path("canary").exists()


def test_a_journal_sends_files_of_its_run_only(tracked: TrackedRuns, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "own.txt").write_text("the run's")
    (folder / "link.txt").symlink_to(secret)
    with Journal(folder) as journal:
        first = {"key": "planted", "run_id": None, "experiment": "eyegender", "name": "n", "tags": {}, "time": 1}
        journal.append({"op": "run", **first, "uri": tracked.uri, "artifacts": None})
        for path in (str(secret), "../secret.txt", "link.txt", "own.txt"):
            journal.append({"op": "artifact", "path": path, "to": None, "time": 2})
    _, run = send(folder, None)
    assert run is not None
    assert [item.path for item in mlflow.MlflowClient(tracked.uri).list_artifacts(run)] == ["own.txt"]
