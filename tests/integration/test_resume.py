"""Runs that resume from a checkpoint: longer, refused, or while another process still trains them."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch
import yaml

from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig
from eyegender.data.data_module import EyesDataModule
from eyegender.models.classifier import Classifier
from eyegender.tracking.names import stored_name
from eyegender.training.build import build_optimization
from eyegender.training.run import train
from tests.composing import TINY, tiny_config
from tests.processes import run
from tests.stores import give_store

pytestmark = pytest.mark.integration

HEAD = ("model.finetune_depth=0", "features=off", "run_test=false")
STEPS = 3  # per epoch


@pytest.fixture(autouse=True)
def _ready_store(tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")


def only_run(folder: Path) -> tuple[mlflow.MlflowClient, mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id])
    return client, run


def rates(config: TrainConfig, epochs: int) -> list[float]:
    """The learning rate after each epoch of a run with `epochs` epochs."""
    optimization = build_optimization(config)
    optimizer = optimization.build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 1e-3}])
    scheduler, found = optimization.build_scheduler(optimizer, epochs * STEPS), []
    for _ in range(epochs):
        for _ in range(STEPS):
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("scheduler", "optimizer"), [("onecycle", "adamw"), ("cosine", "sgd"), ("constant", "adam"), ("none", "nadam")]
)
def test_a_longer_run_logs_the_rates_of_its_whole_length_and_all_its_epochs(
    tmp_path: Path, scheduler: str, optimizer: str
) -> None:
    options = (*HEAD, f"scheduler={scheduler}", f"optimizer={optimizer}")
    checkpoint = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    first = train(tiny_config(*options, "trainer.max_epochs=2"), tmp_path / "first")
    second = train(
        tiny_config(*options, "trainer.max_epochs=5", "tracking.run_name=longer", checkpoint), tmp_path / "second"
    )
    logged = [row["lr"] for row in second.history]
    assert logged[:2] == pytest.approx(rates(tiny_config(*options), 2), abs=1e-12)
    assert logged[2:] == pytest.approx(rates(tiny_config(*options), 5)[2:], abs=1e-12)
    assert second.history[:2] == first.history
    client, run = only_run(tmp_path)
    for name in ("lr", "val/loss", "train/accuracy"):
        history = client.get_metric_history(run.info.run_id, stored_name(name))
        assert [(point.step, point.value) for point in history] == [(row["epoch"], row[name]) for row in second.history]
    assert run.info.run_name == "longer"
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.tags["resumed.trainer.max_epochs"] == "2 until epoch 2, then 5"
    assert run.data.tags["output_dir"] == str(tmp_path / "second")
    assert yaml.safe_load((tmp_path / "second/config.yaml").read_text())["trainer"]["max_epochs"] == 5


def test_a_changed_option_is_refused_before_data_is_read_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "first")
    last = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    monkeypatch.setattr(EyesDataModule, "setup", lambda *_: pytest.fail("data were read"))
    for changed, message in (
        (("model.lr=0.01",), r"was trained with model.lr=0.001, got 0.01; set model.lr=0.001"),
        (("model.finetune_depth=2",), "model.finetune_depth=0, got 2"),
    ):
        with pytest.raises(UserError, match=message):
            train(tiny_config(*HEAD, *changed, last), tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} <= {"run.lock"}
    # Hydra does not record it either, neither in a new folder nor in that of the run.
    for folder in ("third", "first"):
        done = run("eyegender.train", *TINY, *HEAD, "model.lr=0.01", last, f"hydra.run.dir={tmp_path / folder}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "model.lr=0.001, got 0.01" in done.stderr
    assert not (tmp_path / "third").exists()
    assert not (tmp_path / "first/.hydra").exists()
    _, stored = only_run(tmp_path)
    assert (stored.data.params["model.lr"], stored.info.status) == ("0.001", "FINISHED")


def test_other_images_under_the_same_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "first")
    last = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    for part in ("fingerprint", "split"):
        with monkeypatch.context() as patch:
            changed = {"fingerprint": "f", "split": "s"}
            known = torch.load(tmp_path / "first/checkpoints/last.ckpt", weights_only=True)["data"]
            patch.setattr("eyegender.training.resume.data_identity", lambda _, d=known | {part: changed[part]}: d)
            with pytest.raises(
                UserError, match="was trained on other " + ("images or labels" if part == "fingerprint" else part)
            ):
                train(tiny_config(*HEAD, "trainer.max_epochs=2", last), tmp_path / "second")


def test_the_second_of_two_processes_that_resume_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "first")
    longer = tiny_config(*HEAD, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}")
    plain, refused = Classifier.on_train_start, []

    def meanwhile(self: Classifier) -> None:
        monkeypatch.setattr(Classifier, "on_train_start", plain)
        for folder in ("third", "second"):
            with pytest.raises(UserError, match="another process is training the run in .*; wait until") as error:
                train(longer, tmp_path / folder)
            refused.append(str(error.value))
        plain(self)

    monkeypatch.setattr(Classifier, "on_train_start", meanwhile)
    train(longer, tmp_path / "second")
    assert len(refused) == 2
    client, run = only_run(tmp_path)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/lr")] == [1, 2]
    # Resuming from the second folder locks the first one, too: it is one run.
    stored = torch.load(tmp_path / "second/checkpoints/last.ckpt", weights_only=True)["run"]
    assert stored["began_in"] == str((tmp_path / "first").resolve())


def test_a_checkpoint_behind_its_run_resumes_as_a_new_run(tmp_path: Path) -> None:
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "first")
    last = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    runs = {"second": train(tiny_config(*HEAD, "trainer.max_epochs=2", last), tmp_path / "second")}
    runs["third"] = train(tiny_config(*HEAD, "trainer.max_epochs=3", last), tmp_path / "third")
    assert runs["third"].run_id != runs["second"].run_id
    third = f"ckpt_path={tmp_path / 'third/checkpoints/last.ckpt'}"
    runs["fourth"] = train(tiny_config(*HEAD, "trainer.max_epochs=4", third), tmp_path / "fourth")
    assert runs["fourth"].run_id == runs["third"].run_id
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    for name in ("second", "fourth"):
        history = client.get_metric_history(runs[name].run_id, "train/lr")
        assert [(point.step, point.value) for point in history] == [
            (row["epoch"], row["lr"]) for row in runs[name].history
        ]
    tags = client.get_run(runs["third"].run_id).data.tags
    assert tags["branched_from"] == runs["second"].run_id
    assert tags["resumed.trainer.max_epochs"] == "3 until epoch 3, then 4"


def test_a_run_resumed_in_another_experiment_is_new_and_has_all_epochs(tmp_path: Path) -> None:
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "first")
    last = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    train(tiny_config(*HEAD, "trainer.max_epochs=2", "tracking.experiment=other", last), tmp_path / "second")
    client, run = only_run(tmp_path)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/lr")] == [1]
    [other] = client.search_runs([client.get_experiment_by_name("other").experiment_id])
    assert [point.step for point in client.get_metric_history(other.info.run_id, "train/lr")] == [1, 2]
    assert other.data.params["trainer.max_epochs"] == "2"


def test_a_finished_run_of_limited_steps_is_only_tested_again(tmp_path: Path) -> None:
    options = (*HEAD, "trainer.max_epochs=5", "trainer.max_steps=4")
    first = train(tiny_config(*options), tmp_path / "first")
    last = f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"
    again = train(tiny_config(*options, "run_test=true", last), tmp_path / "second")
    assert again.history == first.history
    assert again.trainer.global_step == 4
    assert "test/accuracy" in again.metrics


def test_a_checkpoint_has_the_layout_of_version_0_1(tmp_path: Path) -> None:
    """A checkpoint of version 0.1 resumes, and the names by which it does must not change."""
    train(tiny_config(*HEAD, "trainer.max_epochs=1"), tmp_path / "out")
    found = torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)
    assert set(found) - {"val_predictions"} == {  # which version 0.1 did not have, and nobody needs to resume
        "callbacks", "config", "data", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states",
        "pytorch-lightning_version", "run", "state_dict",
    }  # fmt: skip
    every_epoch = "'every_n_train_steps': 0, 'every_n_epochs': 1, 'train_time_interval': None"
    assert set(found["callbacks"]) == {
        f"BestCheckpoint{{'monitor': 'val/accuracy', 'mode': 'max', {every_epoch}}}",
        "Epochs",
        f"ModelCheckpoint{{'monitor': None, 'mode': 'min', {every_epoch}}}",
    }
    assert set(found["callbacks"]["Epochs"]) == {"epoch_seconds", "history"}
    assert set(found["run"]) == {"began_in", "experiment", "key", "run_id"}
    assert set(found["data"]) == {"fingerprint", "split"}
    names = [group["name"] for group in found["optimizer_states"][0]["param_groups"]]
    assert names == ["backbone", "backbone_no_decay", "head", "head_no_decay"]
    layers = list(found["state_dict"])
    assert (layers[0], layers[-1]) == ("network.stages.features_0.0.weight", "network.head.linear.bias")
