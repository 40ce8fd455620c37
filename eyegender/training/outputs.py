"""What a finished run leaves: metrics.json, the table of predictions, figures and the saved network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.network import Network
    from eyegender.serving.saved_network import Card
    from eyegender.training.epochs import History

METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "test_predictions.json"


def write_json(path: Path, content: Any) -> None:
    """Written aside, synced and renamed: a kill leaves the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w") as file:
        json.dump(content, file, indent=2, allow_nan=False, default=str)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def write_predictions(path: Path, data: EyesDataModule, predictions: Mapping[str, Tensor]) -> None:
    """One row per picture, in the layout that `mlflow.load_table` reads."""
    index = predictions["index"].numpy()
    samples = data.samples
    persons = data.persons
    columns: dict[str, list[Any]] = {
        "name": [samples.names[i] for i in index],
        "digest": [samples.digests[i] for i in index],
        "person": [str(persons[i]) for i in index] if persons is not None else [""] * len(index),
        "label": predictions["labels"].tolist(),
        "probability": [round(p, 6) for p in predictions["logits"].double().sigmoid().tolist()],
    }
    columns |= {name: np.asarray(values)[index].tolist() for name, values in samples.attributes.items()}
    write_json(path, {"columns": list(columns), "data": list(map(list, zip(*columns.values(), strict=True)))})


def draw_figures(
    folder: Path, history: History, data: EyesDataModule, predictions: Mapping[str, Tensor] | None, note: str | None
) -> list[Path]:
    """The run's figures as files in `folder`."""
    from eyegender.report import figures

    drawn = {"learning_curves": figures.learning_curves(history, note=note)}
    if predictions is not None:
        labels = predictions["labels"].numpy()
        probabilities = predictions["logits"].double().sigmoid().numpy()
        index = predictions["index"].numpy()
        predicted = (probabilities > 0.5).astype(int)
        counts = np.bincount(2 * labels + predicted, minlength=4).reshape(2, 2)
        drawn |= {
            "confusion_matrix": figures.confusion_matrix(counts, data.samples.classes, note=note),
            "roc": figures.roc_curve(labels, probabilities, classes=data.samples.classes, note=note),
            "reliability": figures.reliability_diagram(labels, probabilities, classes=data.samples.classes, note=note),
            # A function, so that only the pictures that are shown are read.
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
    return list(figures.save_figures(drawn, folder))


def save_for_logging(folder: Path, network: Network, card: Card, example: np.ndarray[Any, Any]) -> None:
    """The network and its input example where `tracking.model_logging` expects them."""
    from eyegender.serving.saved_network import save_network

    (folder / "network").mkdir(parents=True, exist_ok=True)
    save_network(network, card, folder / "network")
    np.save(folder / "example.npy", example)
