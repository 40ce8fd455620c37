"""How MLflow's pages show an experiment: in the model-training view, with columns for the main metrics and parameters.

MLflow 3 opens an experiment in its GenAI view, without columns for metrics. A shared view is stored in tags of the
experiment, and the link names it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eyegender.core.secrets import redact

if TYPE_CHECKING:
    from eyegender.tracking.location import Location

NAME = "eyegender"
UI_ADDRESS = "http://127.0.0.1:5000"  # where `make ui` and `mlflow ui` show a local store
RUN_ADDRESS = "mlflow_run"
"""User attribute of a trial and of a study of Optuna: the address of its run on MLflow's pages."""
COLUMNS = (
    "attributes.`Created`",
    "metrics.`test/accuracy`",
    "metrics.`val_best/accuracy`",
    "metrics.`best/val/accuracy`",  # of runs of earlier versions
    "params.`model.name`",
    "params.`model.finetune_depth`",
    "params.`model.lr`",
    "params.`input_size`",
)

VIEW = f"mlflow.sharedViewState.{NAME}"
TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    VIEW: json.dumps({"selectedColumns": list(COLUMNS)}),
}


def link(base: str, experiment_id: str) -> str:
    """The address of the experiment's runs on the MLflow pages at `base`."""
    return (
        f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={NAME}"
    )


def base_address(location: Location) -> str:
    """Where MLflow's pages are: at the server, without its password, or where `mlflow ui` shows a local store."""
    return redact(location.uri.rstrip("/") if location.uri.startswith("http") else UI_ADDRESS)


def run_address(location: Location, experiment_id: str, run_id: str) -> str:
    """The address of a run on MLflow's pages."""
    return f"{base_address(location)}/#/experiments/{experiment_id}/runs/{run_id}"
