"""Logs the trained network as an MLflow model that holds no pickle and needs no guessing by MLflow."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import warnings
from importlib import metadata
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

# What serving imports; given, because MLflow would otherwise start a process and watch what is imported.
REQUIREMENTS = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pillow", "filelock", "platformdirs", "rich")

# Requests to the store at the same moment: most wait for an answer, and a server queues what it cannot take at once.
AT_ONCE = 8

CONTENT = "eyegender.sha256"  # tag of a model: which network it holds


def pinned() -> list[str]:
    """name==version of what a logged model needs; local version labels (+cu130) are no registry's."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def log_model(client: MlflowClient, run_id: str, folder: Path, facts: dict[str, Any]) -> None:
    """Log the network saved in `folder` as the run's model; a second call for the same network changes nothing.

    A run that went on and became better has another network than before, and with it another model: the newest counts.

    MLflow's own Model.log would read the history of every metric, load the model to see whether it does, send its files
    one after the other, and find its store through global state.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run, content = client.get_run(run_id), _digest(folder / "network")
    # The status is compared here: in a query it never matches on sqlite, where the column holds a number.
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    made = [model for model in found if model.tags.get(CONTENT) == content]
    if any(str(model.status) == "READY" for model in made):
        return
    # One whose files did not all get through before is gone on with.
    model = (
        made[0]
        if made
        else client.create_logged_model(
            run.info.experiment_id,
            name="model",
            source_run_id=run_id,
            model_type="eye-classifier",
            params=facts["params"],
            tags={CONTENT: content},
        )
    )
    known = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in known}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    _measured(client, run_id, model.model_id)
    with tempfile.TemporaryDirectory() as place:
        described = Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            metadata=facts["metadata"],
            model_id=model.model_id,
        )
        _write(Path(place) / "model", folder, described)
        _send(client, model.model_id, Path(place) / "model")
    client.finalize_logged_model(model.model_id, "READY")


def _write(target: Path, folder: Path, described: Model) -> None:
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    import eyegender

    package = Path(eyegender.__file__).parent
    # No schema of the input: MLflow has none for "an array or a list of pictures", and a list that its tensor refuses
    # is printed whole, bytes and all. The model checks what it gets.
    signature = ModelSignature(outputs=Schema([TensorSpec(np.dtype("float32"), (-1,))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        pyfunc.save_model(
            path=str(target),
            mlflow_model=described,
            python_model=str(package / "inference" / "mlflow_model.py"),
            # An address: MLflow would read a plain path as one, and a ? or % in it as part of that.
            artifacts={"network": (folder / "network").absolute().as_uri()},
            code_paths=[str(package)],
            signature=signature,
            input_example=np.load(folder / "example.npy", allow_pickle=False),
            pip_requirements=pinned(),
        )
    for left in target.rglob("__pycache__"):
        shutil.rmtree(left)


def _send(client: MlflowClient, model_id: str, folder: Path) -> None:
    """Several files at a time, as each waits for an answer; what makes them a model comes last."""
    last = folder / "MLmodel"
    paths = sorted((path for path in folder.rglob("*") if path.is_file() and path != last), key=_size, reverse=True)

    def send(path: Path) -> None:
        inside = path.parent.relative_to(folder).as_posix()
        client.log_model_artifact(model_id, str(path), None if inside == "." else inside)

    # Its threads are daemons: a request that hangs does not hold up the end of the process.
    with ThreadPool(AT_ONCE) as pool:
        pool.map(send, paths)
    send(last)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()} {_size(path)} ".encode() + path.read_bytes())
    return total.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size


def _measured(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Show the run's test metrics on the model's page, too. Told again as they were, they count once."""
    from mlflow.entities import Metric

    run = client.get_run(run_id)
    dataset = run.inputs.dataset_inputs[0].dataset if run.inputs and run.inputs.dataset_inputs else None
    named = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
    keys = [key for key in run.data.metrics if key.startswith("test/")]
    with ThreadPool(AT_ONCE) as pool:
        points = pool.map(lambda key: client.get_metric_history(run_id, key)[-1], keys)
    found = [
        Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, run_id=run_id, **named)
        for point in points
    ]
    if found:
        client.log_batch(run_id, metrics=found)
