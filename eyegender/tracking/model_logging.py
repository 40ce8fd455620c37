"""Logs the trained network as an MLflow model that holds no pickle and needs no guessing by MLflow."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.tracking import MlflowClient

# What serving imports; given, because MLflow would otherwise start a process and watch what is imported.
REQUIREMENTS = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pillow", "filelock", "platformdirs", "rich")


def pinned() -> list[str]:
    """name==version of what a logged model needs; local version labels (+cu130) are no registry's."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def log_model(client: MlflowClient, uri: str, run_id: str, folder: Path, facts: dict[str, Any]) -> None:
    """Log the network saved in `folder` as the run's model; a second call for the same run changes nothing."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    import eyegender

    experiment_id = client.get_run(run_id).info.experiment_id
    if _logged_before(client, experiment_id, run_id):
        return
    package = Path(eyegender.__file__).parent
    # The object tensor is MLflow's way to take any array: uint8 or float, gray or colour, files' bytes or base64.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("object"), (-1,))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1,))]),
    )
    example = np.load(folder / "example.npy", allow_pickle=False)
    with warnings.catch_warnings(), _global_uri(uri):
        warnings.simplefilter("ignore")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        # Made here, because MLflow would put it into the experiment that its global state calls active.
        model = client.create_logged_model(
            experiment_id, name="model", source_run_id=run_id, model_type="eye-classifier", params=facts["params"]
        )
        _measured(client, run_id, model.model_id)
        Model.log(
            artifact_path=None,
            flavor=pyfunc,
            name="model",
            run_id=run_id,
            model_id=model.model_id,
            python_model=str(package / "serving" / "eye_model.py"),
            artifacts={"network": str(folder / "network")},
            code_paths=[str(package)],
            signature=signature,
            input_example=example,
            pip_requirements=pinned(),
            metadata=facts["metadata"],
        )


@contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    """MLflow logs models through global state only, and leaves it in the environment, where others would obey it."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _measured(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Show the run's test metrics on the model's page, too. Told again as they were, they count once."""
    from mlflow.entities import Metric

    run = client.get_run(run_id)
    dataset = run.inputs.dataset_inputs[0].dataset if run.inputs and run.inputs.dataset_inputs else None
    named = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
    points = [client.get_metric_history(run_id, key)[-1] for key in run.data.metrics if key.startswith("test/")]
    found = [
        Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, run_id=run_id, **named)
        for point in points
    ]
    if found:
        client.log_batch(run_id, metrics=found)


def _logged_before(client: MlflowClient, experiment_id: str, run_id: str) -> bool:
    # The status is compared here: in a query it never matches on sqlite, where the column holds a number.
    made = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    return any(str(model.status) == "READY" for model in made)
