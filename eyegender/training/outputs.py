"""Output files of a finished run: metrics.json, test predictions, figures and the saved network."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.atomic_write import atomic_write
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

METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "test_predictions.json"


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
    tracker.metrics(final | facts, step=len(history))
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
    tracker.artifact(METRICS_FILE)
    if predictions is not None:
        write_predictions(output_dir / PREDICTIONS_FILE, data, predictions)
        tracker.artifact(PREDICTIONS_FILE)
        # MLflow lists tables by this tag.
        tracker.tags({"mlflow.loggedArtifacts": f'[{{"path": "{PREDICTIONS_FILE}", "type": "table"}}]'})
    note = "synthetic eyes" if data.source == "synthetic" else None
    for path in draw_figures(output_dir / "figures", history, data, predictions, note):
        tracker.artifact(str(path.relative_to(output_dir)), "figures")
    example = data.pixels(data.split.val[:1]).transpose(0, 2, 3, 1)
    save_for_logging(output_dir / "model", built.classifier.network, spec, example)
    tracker.model(
        "model",
        metadata=_model_metadata(spec, data.source),
        params={"model": cfg.model.name, "finetune_depth": str(spec.depth)},
    )


def write_json(path: Path, content: Any) -> None:
    """Write JSON; raises ValueError for values that JSON does not have, such as NaN."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False, default=str)


def write_predictions(path: Path, data: EyesDataModule, predictions: Mapping[str, Tensor]) -> None:
    """Write one row per image, in the format of `mlflow.load_table`."""
    index = predictions["index"].numpy()
    samples = data.samples
    persons = data.persons
    columns: dict[str, list[Any]] = {
        "name": [samples.names[i] for i in index],
        "digest": [samples.digests[i] for i in index],
        "person": [str(persons[i]) for i in index] if persons is not None else [""] * len(index),
        "label": predictions["labels"].tolist(),
        # All digits of a float32, so that the ranks and thus the AUROC do not change.
        "probability": [float(f"{p:.9g}") for p in predictions["logits"].double().sigmoid().tolist()],
    }
    columns |= {name: np.asarray(values)[index].tolist() for name, values in samples.attributes.items()}
    write_json(path, {"columns": list(columns), "data": list(map(list, zip(*columns.values(), strict=True)))})


def draw_figures(
    folder: Path, history: History, data: EyesDataModule, predictions: Mapping[str, Tensor] | None, note: str | None
) -> list[Path]:
    """Save the figures of the run in `folder`; without predictions only the learning curves."""
    from eyegender.plots import figures

    plots = {"learning_curves": figures.learning_curves(history, note=note)}
    if predictions is not None:
        labels = predictions["labels"].numpy()
        probabilities = predictions["logits"].double().sigmoid().numpy()
        index = predictions["index"].numpy()
        predicted = (probabilities > 0.5).astype(int)
        counts = np.bincount(2 * labels + predicted, minlength=4).reshape(2, 2)
        plots |= {
            "confusion_matrix": figures.confusion_matrix(counts, data.samples.classes, note=note),
            "roc": figures.roc_curve(labels, probabilities, classes=data.samples.classes, note=note),
            "reliability": figures.reliability_diagram(
                labels,
                probabilities,
                classes=data.samples.classes,
                note=note,
                persons=None if data.persons is None else np.asarray(data.persons)[index],
            ),
            # A function, so that only the images in the figure are read.
            "most_wrong": figures.most_wrong_sheet(
                lambda rows: data.pixels(index[rows]),
                labels,
                probabilities,
                [data.samples.names[i] for i in index],
                k=24,
                classes=data.samples.classes,
                note=note,
            ),
        }
    return list(figures.save_figures(plots, folder))


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
