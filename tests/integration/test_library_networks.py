"""Networks of torchvision and timm in real runs: trained, stored, resumed, loaded, tested and exported."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eyegender.core.schema import TrackingSection
from eyegender.inference.grad_cam import grad_cam
from eyegender.inference.load import load_model
from eyegender.inference.onnx_export import TOLERANCE, export_onnx
from eyegender.models.libraries.library_backbone import LibraryBackbone
from eyegender.models.libraries.timm_backbone import TimmBackbone
from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone
from eyegender.training.run import train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration

NETWORKS = [
    ("torchvision", "resnet18", 32),
    ("torchvision", "swin_t", 32),
    ("timm", "convnext_atto", 32),
    ("timm", "tf_efficientnet_b0", 32),
]


def weights_of(library: str, name: str, folder: Path) -> Path:
    """A state dict of the library's own network."""
    kinds: dict[str, type[LibraryBackbone]] = {"torchvision": TorchvisionBackbone, "timm": TimmBackbone}
    torch.manual_seed(0)
    network = kinds[library].configured({"name": name}).build()
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(("library", "name", "size"), NETWORKS, ids=[name for _, name, _ in NETWORKS])
def test_a_network_is_trained_stored_loaded_and_exported(
    library: str, name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    weights = weights_of(library, name, tmp_path)
    overrides = (
        f"model={library}", f"model.name={name}", f"data.size={size}", f"model.weights={weights}",
        "model.finetune_depth=2", "trainer.max_epochs=2", "data.augment.enabled=false", "features.dtype=float32",
        "model.dropout=0",
    )  # fmt: skip
    stored = train(tiny_config(*overrides, "features=on"), tmp_path / "stored")
    images = train(tiny_config(*overrides, "features=off"), tmp_path / "images")
    assert list((tmp_path / "cache/activations").glob("*/activations.bin"))
    for metric, value in images.metrics.items():
        if metric.endswith("/loss"):
            assert stored.metrics[metric] == pytest.approx(value, rel=2e-2), metric

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    params = client.get_run(str(images.run_id)).data.params
    assert params["model.name"] == name
    (logged,) = client.search_logged_models(["1"], f"source_run_id = '{images.run_id}'")
    needed = (Path(logged.artifact_location.removeprefix("file://")) / "requirements.txt").read_text()
    assert ("timm==" in needed) is (library == "timm")

    tracking = TrackingSection(
        experiment="eyegender", run_name=None, close_timeout=1, uri=None, root=str(tmp_path / "mlruns")
    )
    of_run = load_model(f"runs:/{images.run_id}", tracking)
    channels = 1 if of_run.spec.color == "gray" else 3
    pixels = np.random.default_rng(1).integers(0, 256, (3, channels, size, size), dtype=np.uint8)
    of_checkpoint = load_model(str(tmp_path / "images/checkpoints/best.ckpt"), tracking)
    assert of_run.spec == of_checkpoint.spec
    np.testing.assert_allclose(of_run.probabilities(pixels), of_checkpoint.probabilities(pixels), rtol=1e-5)
    served = mlflow.pyfunc.load_model(logged.artifact_location)
    np.testing.assert_allclose(served.predict(pixels.transpose(0, 2, 3, 1)), of_run.probabilities(pixels), rtol=1e-4)
    assert grad_cam(of_run, pixels).shape == (3, size, size)
    if name != "swin_t":  # whose export takes minutes
        assert export_onnx(of_run, tmp_path / "model.onnx") <= TOLERANCE

    resumed = tiny_config(
        *overrides, "features=off", "trainer.max_epochs=3", f"ckpt_path={tmp_path}/images/checkpoints/last.ckpt"
    )
    assert len(train(resumed, tmp_path / "images").history) == 3
    assert json.loads((tmp_path / "images/metrics.json").read_text())["model"] == name
