"""Real runs end to end: what lies in the store, in the checkpoint and in the output folder afterwards."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.data import pixel_cache
from eyegender.data.decode import Color, to_pixels
from eyegender.models.classifier import Classifier
from eyegender.training.run import RunResult, train
from tests import processes
from tests.composing import SMALL, TINY, tiny_config
from tests.stores import give_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Run

    from eyegender.data.loader import Batch

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _ready_store(tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")


def store(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")


def only_run(folder: Path) -> Run:
    client = store(folder)
    experiment = client.get_experiment_by_name("eyegender")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    return runs[0]


def artifacts(folder: Path, run: Run) -> set[str]:
    client, found = store(folder), set()
    folders = [None]
    while folders:
        for item in client.list_artifacts(run.info.run_id, folders.pop()):
            folders.append(item.path) if item.is_dir else found.add(item.path)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """One run that several tests look at."""
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return folder, train(tiny_config(), folder / "out", ["data.n=60", "+x.password=canary"])
    finally:
        os.chdir(before)


def test_the_run_holds_parameters_metrics_and_tags(finished: tuple[Path, RunResult]) -> None:
    folder, result = finished
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.lr"] == "0.001"
    assert run.data.params["model.finetune_depth"] == "all"
    assert run.data.params["finetune_stages"] == "19"
    assert run.data.params["count.train.female"] == str(result.module and _counts(folder)["train"]["female"])
    for name in ("data.fingerprint", "split.kind", "weights.kind", "precision", "hardware.cores"):
        assert run.data.tags[name]
    assert run.data.tags["synthetic"] == "true"
    assert "canary" not in str(run.data.tags)
    client = store(folder)
    for part in ("train", "val"):
        for metric in ("loss", "accuracy", "precision", "recall", "specificity", "f1", "auroc", "calibration_error"):
            history = client.get_metric_history(run.info.run_id, f"{part}/{metric}")
            assert [point.step for point in history] == [1, 2], metric
    assert run.data.metrics["test/accuracy"] == pytest.approx(result.metrics["test/accuracy"])
    assert run.inputs.dataset_inputs[0].dataset.name == "synthetic"


def _counts(folder: Path) -> dict[str, dict[str, int]]:
    return json.loads((folder / "out" / "metrics.json").read_text())["data"]["counts"]


def test_the_experiment_opens_as_model_training(finished: tuple[Path, RunResult]) -> None:
    experiment = store(finished[0]).get_experiment_by_name("eyegender")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_all_artifacts_are_logged(finished: tuple[Path, RunResult]) -> None:
    folder, _ = finished
    expected = {"config.yaml", "environment.json", "metrics.json", "test_predictions.json"} | {
        f"figures/{name}.png" for name in ("learning_curves", "confusion_matrix", "roc", "reliability", "most_wrong")
    }
    assert artifacts(folder, only_run(folder)) == expected


def test_the_output_folder(finished: tuple[Path, RunResult]) -> None:
    out = finished[0] / "out"
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["metrics"]["test/accuracy"] == finished[1].metrics["test/accuracy"]
    assert {"torch", "python"} <= metrics["versions"].keys()
    assert metrics["hardware"]["cpu"]
    assert yaml.safe_load((out / "config.yaml").read_text())["model"]["lr"] == 0.001


def test_the_best_epochs_checkpoint_is_what_was_tested(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    best = torch.load(result.output_dir / "checkpoints" / "best.ckpt", weights_only=True)
    state = result.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in best["state_dict"].items())
    accuracies = [row["val/accuracy"] for row in result.history]
    assert result.score == max(accuracies)
    assert best["epoch"] == accuracies.index(max(accuracies))


def test_the_logged_model_predicts_as_the_run_did_and_holds_no_pickle(finished: tuple[Path, RunResult]) -> None:
    folder, result = finished
    run = only_run(folder)
    model_id = run.outputs.model_outputs[0].model_id
    shown = {metric.key: metric.value for metric in store(folder).get_logged_model(model_id).metrics}
    assert shown == {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert len(store(folder).get_metric_history(run.info.run_id, "test/accuracy")) == 1  # sent twice, stored once
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    local = Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}"))
    assert not [path for path in local.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".pt2", ".bin"}]
    requirements = (local / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    model = mlflow.pyfunc.load_model(f"models:/{model_id}")
    assert model.metadata.signature is not None
    assert model.predict(model.input_example).shape == (1,)
    table = json.loads((folder / "out" / "test_predictions.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    data = result.trainer.datamodule
    pixels = data.pixels(data.split.test)
    names = [data.samples.names[i] for i in data.split.test]
    predicted = dict(zip(names, model.predict(pixels), strict=True))
    for row in rows:
        assert predicted[row["name"]] == pytest.approx(row["probability"], abs=1e-4)
    assert model.predict(pixels[:1]).shape == (1,)  # any batch size
    png = io.BytesIO()
    Image.fromarray(pixels[0].transpose(1, 2, 0).squeeze()).save(png, "PNG")
    one = predicted[names[0]]
    for given in ([png.getvalue()], png.getvalue(), pixels[0].transpose(1, 2, 0), [pixels[0] / 255]):
        assert model.predict(given) == pytest.approx([one], abs=1e-4)
    mixed = model.predict([png.getvalue(), np.minimum(pixels[0] / 255 + 1e-7, 1.0000001), pixels[0]])
    assert mixed == pytest.approx([one] * 3, abs=1e-3)
    with pytest.raises(ValueError, match="image 1 cannot be read") as refused:
        model.predict([png.getvalue(), b"no picture" * 1000])
    assert len(str(refused.value)) < 200


def test_the_same_seed_gives_the_same_metrics(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    again = train(tiny_config(), tmp_path / "again")
    timed = ("epoch_seconds",)
    one = [{k: v for k, v in row.items() if k not in timed} for row in finished[1].history]
    two = [{k: v for k, v in row.items() if k not in timed} for row in again.history]
    np.testing.assert_equal(one, two)
    np.testing.assert_equal(again.metrics, finished[1].metrics)


def test_another_seed_gives_other_metrics(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    other = train(tiny_config("seed=1", "run_test=false"), tmp_path / "other")
    assert other.history[0]["train/loss"] != finished[1].history[0]["train/loss"]


@pytest.mark.parametrize("depth", ["0", "3"])
def test_a_frozen_prefix_is_the_same_before_and_after(depth: str, tmp_path: Path) -> None:
    result = train(tiny_config(f"model.finetune_depth={depth}", "run_test=false"), tmp_path / "out")
    network = result.module.network
    assert all(not p.requires_grad for p in network.prefix.parameters())
    assert not any(module.training for stage in network.train().prefix for module in stage.modules())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunResult]:
    """Runs that nothing interrupted, trained once each."""

    @cache
    def trained(*options: str) -> RunResult:
        folder = tmp_path_factory.mktemp("whole")
        give_store(folder / "mlruns")
        return train(tiny_config(*options, f"tracking.root={folder / 'mlruns'}"), folder / "out")

    return trained


@pytest.mark.parametrize(
    ("number", "step", "ema"),
    [
        (signal.SIGTERM, 4, "null"),  # in the middle of the second epoch
        (signal.SIGINT, 5, "null"),  # at its last step
        (signal.SIGINT, 4, "0.99"),
        (signal.SIGTERM, 5, "0.99"),
    ],
)
def test_a_signal_leaves_a_checkpoint_and_a_killed_run_that_resumes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Callable[..., RunResult],
    number: signal.Signals,
    step: int,
    ema: str,
) -> None:
    options = ("trainer.max_epochs=3", f"model.ema={ema}")
    config = (*options, f"tracking.root={tmp_path / 'mlruns'}")
    expected = whole(*options)
    plain = Classifier.training_step

    def signalled(self: Classifier, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", signalled)
        with pytest.raises(SystemExit) as stopped:
            train(tiny_config(*config), tmp_path / "first")
    assert stopped.value.code == 128 + number
    assert only_run(tmp_path).info.status == "KILLED"
    last = torch.load(tmp_path / "first/checkpoints/last.ckpt", weights_only=True)
    trained = last.get("current_model_state", last["state_dict"])
    apart = [name for name, tensor in last["state_dict"].items() if not torch.equal(tensor, trained[name])]
    assert bool(apart) == (ema != "null")  # what is tested and logged is the average
    resumed = train(tiny_config(*config, f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"), tmp_path / "second")
    run = only_run(tmp_path)  # still the one run
    assert run.info.status == "FINISHED"
    history = store(tmp_path).get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]
    # Interrupted or not, the result is the same.
    assert [row["train/loss"] for row in resumed.history] == pytest.approx(
        [row["train/loss"] for row in expected.history]
    )
    assert [row["val/loss"] for row in resumed.history] == pytest.approx([row["val/loss"] for row in expected.history])
    assert resumed.metrics["test/loss"] == pytest.approx(expected.metrics["test/loss"])
    assert max(row["epoch_seconds"] for row in resumed.history) < 600  # of the epoch, not of the machine's uptime


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_sigterm_in_the_middle_of_a_stage_lets_it_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stage: str
) -> None:
    config = tiny_config("trainer.max_epochs=3", "trainer.eval_batch_size=1", f"tracking.root={tmp_path / 'mlruns'}")
    plain = getattr(Classifier, f"{stage}_step")

    def signalled(self: Classifier, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and (stage == "test" or self.current_epoch == 1):
            os.kill(os.getpid(), signal.SIGTERM)
        plain(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, f"{stage}_step", signalled)
    if stage == "test":  # no step is left to train: the run ends normally
        assert "test/loss" in train(config, tmp_path / "out").metrics
        assert only_run(tmp_path).info.status == "FINISHED"
        return
    with pytest.raises(SystemExit) as stopped:
        train(config, tmp_path / "out")
    assert stopped.value.code == 143
    assert f"resume with ckpt_path={tmp_path / 'out/checkpoints/last.ckpt'}" in caplog.text
    run = only_run(tmp_path)
    assert run.info.status == "KILLED"
    assert [point.step for point in store(tmp_path).get_metric_history(run.info.run_id, "val/loss")] == [1, 2]


def test_a_signal_while_images_are_decoded_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def signalled(image: Image.Image, size: int, color: Color) -> np.ndarray:
        decoded.append(size)
        if len(decoded) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return to_pixels(image, size, color)

    monkeypatch.setattr(pixel_cache, "to_pixels", signalled)
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as stopped:
        train(tiny_config("data.n=2000", f"tracking.root={tmp_path / 'runs'}"), tmp_path / "out")
    assert stopped.value.code == 128 + signal.SIGINT
    assert len(decoded) < 1000
    assert not (tmp_path / "runs").exists()  # no run had begun


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    over = (*TINY, "data.n=400", "trainer.max_epochs=50", "hydra.run.dir=out")
    process = subprocess.Popen(
        [sys.executable, "-m", "eyegender.train", *over], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch  1/50"):
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "resume with ckpt_path=" in output
    assert "Traceback" not in output
    assert only_run(tmp_path).info.status == "KILLED"


def test_a_checkpoint_of_another_model_or_depth_is_refused_by_name(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "old.ckpt"  # as of a version whose checkpoints had no config
    saved = torch.load(finished[1].output_dir / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({name: part for name, part in saved.items() if name != "config"}, checkpoint)
    with pytest.raises(UserError, match=r"layer network\.head\.\S+ is"):
        train(tiny_config("model.head=paper", f"ckpt_path={checkpoint}"), tmp_path / "a")
    with pytest.raises(UserError, match="another depth"):
        train(tiny_config("model.finetune_depth=2", f"ckpt_path={checkpoint}"), tmp_path / "b")


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    cpus = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    done = processes.run("eyegender.train", *TINY, *cpus, "model.ema=0.99", "hydra.run.dir=out")
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    counted = sum(metrics[f"test/{name}"] for name in ("tp", "fp", "tn", "fn"))
    assert counted == sum(
        json.loads((tmp_path / "out" / "metrics.json").read_text())["data"]["counts"]["test"].values()
    )


def test_a_gradient_that_explodes_stops_the_run_at_its_step(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"loss is not finite at step \d+ with learning rate .* images of that batch: 0"
    ):
        train(tiny_config("model.lr=1e30", "trainer.gradient_clip=null", "trainer.max_epochs=5"), tmp_path / "out")
    assert only_run(tmp_path).info.status == "FAILED"


def test_inception_and_the_papers_head(tmp_path: Path) -> None:
    config = tiny_config(
        "model=inception_v3", "model.weights=null", "data.size=75", "model.head=paper", "trainer.max_epochs=1"
    )
    train(config, tmp_path / "out")
    assert only_run(tmp_path).info.status == "FINISHED"


def test_celeba_end_to_end(real_celeba: Path, tmp_path: Path) -> None:
    over = ("data=celeba", f"data.root={real_celeba}", "data.subset={female: 60, male: 60}")
    done = processes.run("eyegender.train", *SMALL, *over)
    assert done.returncode == 0, done.stdout + done.stderr


def test_real_eyes_end_to_end(real_eyes: Path, tmp_path: Path) -> None:
    over = ("data=folder", f"data.root={real_eyes}", "data.subset={female: 200, male: 200}")
    done = processes.run("eyegender.train", *SMALL, *over)
    assert done.returncode == 0, done.stdout + done.stderr
