"""Real runs end to end: what lies in the store, in the checkpoint and in the output folder afterwards."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.tracking.names import stored_name
from eyegender.training.run import RunResult, train
from tests import processes
from tests.composing import SMALL, TINY, tiny_config
from tests.stores import give_store

if TYPE_CHECKING:
    from mlflow.entities import Run


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
            history = client.get_metric_history(run.info.run_id, stored_name(f"{part}/{metric}"))
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
    expected = {"config.yaml", "environment.json", "metrics.json", "test_predictions.json", "val_predictions.json"} | {
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
    counted = sum(int(part.split()[1]) for part in run.data.tags["confusion.test"].split(", "))
    # The table has the images of both processes, each once.
    names = [row[0] for row in json.loads((tmp_path / "out/test_predictions.json").read_text())["data"]]
    assert len(set(names)) == len(names) == counted
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
