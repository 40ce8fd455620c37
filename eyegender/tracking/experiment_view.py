"""How MLflow's pages show an experiment: in the model-training view, with columns for the main metrics and parameters.

MLflow 3 opens an experiment in its GenAI view, without columns for metrics. A shared view is stored in tags of the
experiment, and the link names it.
"""

from __future__ import annotations

import json

NAME = "eyegender"
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
