"""Output files of a finished run: metrics.json, test predictions, figures and the saved network."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.atomic_write import atomic_write
from eyegender.tracking.predictions import PREDICTIONS_FILE, Predictions
from eyegender.training import environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.network import Network
    from eyegender.models.saved_network import ModelSpec
    from eyegender.tracking.tracker import Tracker
    from eyegender.training.build import BuiltModel
    from eyegender.training.callbacks import History

METRICS_FILE = "metrics.json"


def write_outputs(
    tracker: Tracker,
    output_dir: Path,
    cfg: TrainConfig,
    data: EyesDataModule,
    built: BuiltModel,
    *,
    history: History,
    metrics: dict[str, float],
    facts: dict[str, float],
    predictions: Mapping[str, Tensor] | None,
) -> None:
    """Write all output files and send them to the tracking store.

    Args:
        tracker: tracker of the run.
        output_dir: output folder.
        cfg: config of the run.
        data: the data module.
        built: the classifier with the weights of the best epoch, its specification and initial weights.
        history: metrics of each epoch.
        metrics: metrics of the best epoch and, if it was tested, of the test.
        facts: further numbers, such as `best_epoch` and `fit_seconds`.
        predictions: test predictions, see `Classifier.predictions`; None without a test.
    """
    final = {name: value for name, value in metrics.items() if name.startswith("test/")}
    final |= {f"best/{name}": value for name, value in metrics.items() if name.startswith("val/")}
    tracker.log_metrics(final | facts, step=len(history))
    spec = built.spec
    write_json(
        output_dir / METRICS_FILE,
        {
            "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
            **facts,
            "epochs": len(history),
            "model": cfg.model.name,
            "finetune_depth": spec.depth,
            "size": spec.size,
            "weights": {"kind": built.weights.kind, "sha256": built.weights.sha256},
            "seed": cfg.seed,
            "data": data.facts(),
            "commit": environment.commit(),
            "versions": environment.versions(),
            "hardware": environment.hardware(),
            "run_key": tracker.key,
        },
    )
    tracker.log_artifact(METRICS_FILE)
    if predictions is not None:
        write_json(output_dir / PREDICTIONS_FILE, _prediction_table(data, predictions).to_table())
        tracker.log_artifact(PREDICTIONS_FILE)
        # MLflow lists tables by this tag.
        tracker.set_tags({"mlflow.loggedArtifacts": f'[{{"path": "{PREDICTIONS_FILE}", "type": "table"}}]'})
    note = "synthetic eyes" if data.source == "synthetic" else None
    for path in draw_figures(output_dir / "figures", history, data, predictions, note):
        tracker.log_artifact(str(path.relative_to(output_dir)), "figures")
    example = data.pixels(data.split.val[:1]).transpose(0, 2, 3, 1)
    save_for_logging(output_dir / "model", built.classifier.network, spec, example)
    tracker.log_model(
        "model",
        metadata=_model_metadata(spec, data.source),
        params={"model": cfg.model.name, "finetune_depth": str(spec.depth)},
    )


def write_json(path: Path, content: Any) -> None:
    """Write JSON; raises ValueError for values that JSON does not have, such as NaN."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False, default=str)


def draw_figures(
    folder: Path, history: History, data: EyesDataModule, predictions: Mapping[str, Tensor] | None, note: str | None
) -> list[Path]:
    """Save the figures of the run in `folder`; without predictions only the learning curves."""
    from eyegender.plots import figures

    plots = {"learning_curves": figures.learning_curves(history, note=note)}
    if predictions is not None:
        table, classes = _prediction_table(data, predictions), data.samples.classes
        labels, probabilities = table.labels, table.probabilities
        index = predictions["index"].numpy()
        plots |= {
            "confusion_matrix": figures.confusion_matrix(table.confusion_matrix, classes, note=note),
            "roc": figures.roc_curve(labels, probabilities, classes=classes, note=note),
            "reliability": figures.reliability_diagram(
                labels, probabilities, classes=classes, note=note, persons=table.persons
            ),
            # A function, so that only the images in the figure are read.
            "most_wrong": figures.most_wrong_sheet(
                lambda rows: data.pixels(index[rows]),
                labels,
                probabilities,
                table.names,
                k=24,
                classes=classes,
                note=note,
            ),
        }
    return list(figures.save_figures(plots, folder))


def _prediction_table(data: EyesDataModule, predictions: Mapping[str, Tensor]) -> Predictions:
    index = predictions["index"].numpy()
    samples, persons = data.samples, data.persons
    return Predictions(
        names=tuple(samples.names[i] for i in index),
        keys=tuple(samples.digests[i] for i in index),
        labels=predictions["labels"].numpy(),
        probabilities=predictions["logits"].double().sigmoid().numpy(),
        persons=None if persons is None else tuple(str(persons[i]) for i in index),
        attributes={name: np.asarray(values)[index] for name, values in samples.attributes.items()},
    )


def _model_metadata(spec: ModelSpec, source: str) -> dict[str, Any]:
    return {
        "input": "images, any size and number: integers 0..255, floats 0..1 or 0..255, or files",
        "output": f"probability of {spec.classes[1]}",
        "classes": list(spec.classes),
        "size": spec.size,
        "color": spec.color,
        "data": source,
    }


def save_for_logging(folder: Path, network: Network, spec: ModelSpec, example: np.ndarray[Any, Any]) -> None:
    """Save the network and its input example where `tracking.model_logging` expects them."""
    from eyegender.models.saved_network import save_network

    (folder / "network").mkdir(parents=True, exist_ok=True)
    save_network(network, spec, folder / "network")
    np.save(folder / "example.npy", example)
