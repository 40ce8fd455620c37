"""Logs the trained network as an MLflow model without pickles."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import tempfile
import warnings
from importlib import metadata
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from eyegender.core.eye_study import is_eye_study
from eyegender.core.imports import without_collection
from eyegender.tracking.client import CONCURRENT_REQUESTS

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

# The packages that a served model imports. Without this list, MLflow would start a process to find them.
REQUIREMENTS = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pillow", "filelock", "platformdirs", "rich")

NETWORK = "artifacts/network"  # inside a logged model
CONTENT_TAG = "eyegender.sha256"  # hash of the network that the model contains


def pinned(network: Path) -> list[str]:
    """`name==version` of each required package, without local version labels (+cu130), which no index has.

    Args:
        network: folder of the saved network.
    """
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in (*REQUIREMENTS, *_packages(network))]


def _packages(network: Path) -> tuple[str, ...]:
    """The packages that only this network needs."""
    spec = json.loads((network / "card.json").read_text(encoding="utf-8"))
    if not spec.get("arguments"):
        return ()
    from eyegender.models.backbone import load_backbone  # which imports torch

    return load_backbone(spec["backbone"], spec["arguments"]).packages


def log_model(client: MlflowClient, run_id: str, folder: Path, facts: dict[str, Any]) -> None:
    """Log the network in `folder` as the run's model; a second call for the same network changes nothing.

    If a run is resumed and improves, its new network is logged as another model; the newest one is used.

    MLflow's `Model.log` would read the history of every metric, load the model as a test, upload its files one after
    the other, and find its store through global state.

    Args:
        client: client of the store.
        run_id: id of the run.
        folder: folder with `network/` and `example.npy`, as the run wrote it.
        facts: journal entry with the `params` and the `metadata` of the model.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run, content = client.get_run(run_id), _digest(folder / "network")
    classes: list[str] = facts["metadata"].get("classes", [])
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    same = [model for model in models if model.tags.get(CONTENT_TAG) == content]
    # The status is not part of the query: the SQL store keeps it as a number and finds nothing by its name.
    if any(str(model.status) == "READY" for model in same):
        return
    # A model whose upload was interrupted is completed.
    model = (
        same[0]
        if same
        else client.create_logged_model(
            run.info.experiment_id,
            name=model_name(run.info.run_name or "model"),
            source_run_id=run_id,
            model_type="eye-classifier" if is_eye_study(classes) else "image-classifier",
            params=facts["params"],
            tags={CONTENT_TAG: content},
        )
    )
    known = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in known}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    _log_test_metrics(client, run_id, model.model_id)
    with tempfile.TemporaryDirectory() as temporary:
        description = Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            metadata=facts["metadata"],
            model_id=model.model_id,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, on the type hints of its own models
            _write(Path(temporary) / "model", folder, description)
        _upload(client, model.model_id, Path(temporary) / "model")
    client.finalize_logged_model(model.model_id, "READY")


def model_name(run_name: str) -> str:
    """The name of a run's model: that of the run, with `_` for each character that MLflow refuses in it."""
    return re.sub(r"[/:.%\"']", "_", run_name)


def _write(target: Path, folder: Path, description: Model) -> None:
    """Write MLflow's folder of a model: the network, the code that loads it, an input example and the environment.

    MLflow's `save_model` would search all installed packages, run the code, and copy each file twice.
    """
    with without_collection():
        from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    import eyegender

    package = Path(eyegender.__file__).parent
    shutil.copytree(folder / "network", target / NETWORK)
    shutil.copytree(package, target / "code" / "eyegender", ignore=shutil.ignore_patterns("__pycache__"))
    loader = shutil.copy(package / "inference" / "mlflow_model.py", target)
    example = np.load(folder / "example.npy", allow_pickle=False).tolist()
    (target / "input_example.json").write_text(json.dumps(example))
    (target / "serving_input_example.json").write_text(json.dumps({"inputs": example}))
    packages, python = pinned(folder / "network"), platform.python_version()
    (target / "requirements.txt").write_text("\n".join(packages))
    tools = ["pip", "setuptools", "wheel"]
    environment = {"python": python, "build_dependencies": tools, "dependencies": ["-r requirements.txt"]}
    (target / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False))
    dependencies = [f"python={python}", "pip", {"pip": packages}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": dependencies}
    (target / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False))

    # There is no schema of the input: MLflow has none for "an array or a list of images", and it prints a list that its
    # tensor schema refuses in full, bytes included. The model checks its input itself.
    n_classes = len((description.metadata or {}).get("classes", ()))
    shape = (-1, n_classes) if n_classes > 2 else (-1,)
    description.signature = ModelSignature(outputs=Schema([TensorSpec(np.dtype("float32"), shape)]))
    description.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "ndarray",
    }
    description.model_size_bytes = sum(_size(path) for path in target.rglob("*") if path.is_file())
    pyfunc.add_to_model(
        description,
        loader_module="mlflow.pyfunc.loaders.code_model",
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_code_path=Path(loader).name,
        artifacts={"network": {"path": NETWORK, "uri": NETWORK}},
        streamable=False,
    )
    description.save(str(target / "MLmodel"))


def _upload(client: MlflowClient, model_id: str, folder: Path) -> None:
    """Upload the files concurrently, and `MLmodel` last, because it makes them a model."""
    last = folder / "MLmodel"
    paths = sorted((path for path in folder.rglob("*") if path.is_file() and path != last), key=_size, reverse=True)

    def upload(path: Path) -> None:
        inside = path.parent.relative_to(folder).as_posix()
        client.log_model_artifact(model_id, str(path), None if inside == "." else inside)

    # Its threads are daemons, so a request that hangs does not delay the end of the process.
    with ThreadPool(CONCURRENT_REQUESTS) as pool:
        pool.map(upload, paths)
    upload(last)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()} {_size(path)} ".encode() + path.read_bytes())
    return total.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size


def _log_test_metrics(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Log the run's test metrics for the model, too; equal points that are logged again are stored once."""
    from mlflow.entities import Metric

    run = client.get_run(run_id)
    dataset = run.inputs.dataset_inputs[0].dataset if run.inputs and run.inputs.dataset_inputs else None
    dataset_fields = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
    keys = [key for key in run.data.metrics if key.startswith("test/")]
    with ThreadPool(CONCURRENT_REQUESTS) as pool:
        points = pool.map(lambda key: client.get_metric_history(run_id, key)[-1], keys)
    metrics = [
        Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, run_id=run_id, **dataset_fields)
        for point in points
    ]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
