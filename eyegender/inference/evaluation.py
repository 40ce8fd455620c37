"""All test metrics of a model on labeled images, with intervals; written as JSON and figures, and printed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.core.eye_study import counted_units, is_eye_study
from eyegender.core.progress import show_progress
from eyegender.models.intervals import Interval, bootstrap_intervals
from eyegender.models.metrics import class_metrics
from eyegender.models.saved_network import BATCH
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.run_artifacts import read_predictions
from eyegender.training.outputs import METRICS_FILE, prediction_figures, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from eyegender.inference.labeled_images import LabeledImages
    from eyegender.inference.load import LoadedModel

PREDICTIONS_FILE, FIGURES_FOLDER = "predictions.json", "figures"


@dataclass(frozen=True)
class Evaluation:
    """The result of a model on N labeled images.

    Args:
        model: the model.
        images: the images.
        split: the split that the images are, or `all`.
        predictions: one prediction per image.
        metrics: each metric with its 95% interval.
        warnings: sentences that the reader must know before the metrics.
    """

    model: LoadedModel
    images: LabeledImages
    split: str
    predictions: Predictions
    metrics: dict[str, Interval]
    warnings: tuple[str, ...]

    @property
    def persons(self) -> int | None:
        """The number of persons in the images, or of image groups; None if they are unknown."""
        return None if self.images.persons is None else len(set(self.images.persons))

    def as_json(self) -> dict[str, Any]:
        """The content of `metrics.json`; an undefined value (the AUROC of a single class) is null."""
        return {
            "model": self.model.reference,
            "run": self.model.run_id,
            "data": self.images.samples.source,
            "part": self.split,
            "pictures": len(self.predictions),
            "persons" if is_eye_study(self.images.samples.classes) else "groups": self.persons,
            **({"positive": self.model.spec.classes[1]} if self.model.spec.outputs == 1 else {}),
            "size": self.model.spec.size,
            "color": self.model.spec.color,
            "metrics": {
                name: {key: _json_number(x) for key, x in interval._asdict().items()}
                for name, interval in self.metrics.items()
            },
            **self._counts(),
            "skipped": dict(self.images.skipped),
            "warnings": list(self.warnings),
        }

    def _counts(self) -> dict[str, Any]:
        """The confusion matrix, and the metrics of each class if there are more than two."""
        matrix = self.predictions.confusion_matrix.tolist()
        if not self.predictions.classes:
            (tn, fp), (fn, tp) = matrix
            return {"counts": {"tn": tn, "fp": fp, "fn": fn, "tp": tp}}
        by_class = class_metrics(self.predictions.labels, self.predictions.probabilities)
        classes = {
            name: {metric: _json_number(values[label]) for metric, values in by_class.items()}
            for label, name in enumerate(self.predictions.classes)
        }
        return {"classes": classes, "confusion_matrix": matrix}


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def evaluate_model(model: LoadedModel, images: LabeledImages, split: str) -> Evaluation:
    """Predict every image and compute the metrics.

    Args:
        model: the model to evaluate.
        images: the labeled images.
        split: the split that the images are, or `all`.

    Raises:
        UserError: a prediction is NaN.
    """
    samples = images.samples
    batches = []
    with show_progress("evaluating", len(samples)) as advance:
        for start in range(0, len(samples), BATCH):
            index = np.arange(start, min(start + BATCH, len(samples)), dtype=np.int64)
            batches.append(model.probabilities(images.pixels(index)))
            advance(len(index))
    probabilities = np.concatenate(batches).astype(np.float64)
    if missing := int(np.isnan(probabilities).reshape(len(probabilities), -1).any(axis=1).sum()):
        raise UserError(f"{model.reference} predicts NaN for {missing} images: its training diverged; train again")
    predictions = Predictions(
        names=tuple(samples.names),
        keys=tuple(samples.digests),
        labels=samples.labels.astype(np.int64),
        probabilities=probabilities,
        persons=None if images.persons is None else tuple(images.persons),
        attributes=samples.attributes,
        classes=samples.classes if len(samples.classes) > 2 else (),
    )
    metrics = bootstrap_intervals(predictions.labels, predictions.probabilities, predictions.persons)
    return Evaluation(model, images, split, predictions, metrics, _warnings(model, images))


def _warnings(model: LoadedModel, images: LabeledImages) -> tuple[str, ...]:
    found = []
    if images.samples.source == "synthetic":
        found.append("Synthetic eyes: these metrics say nothing about real eyes.")
    if images.conflicts:
        both = "both" if len(images.samples.classes) == 2 else "several"
        found.append(
            f"{len(images.conflicts):,} images are in {both} classes ({' = '.join(images.conflicts[0])} first): one "
            "copy of each counts as wrong whatever the model predicts; data.on_conflict=drop leaves them out."
        )
    if model.store is not None and model.run_id is not None:
        tested = read_predictions(model.store, model.run_id)
        test_set = set() if tested is None else set(tested.keys)
        shared = sum(digest in test_set for digest in images.samples.digests)
        if 0 < shared < len(images):
            found.append(
                f"{shared:,} of these {len(images):,} images are in the model's own test set: the others are probably "
                "images that it was trained on; add split=test, with the data.split options of its run."
            )
    return tuple(found)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, predictions.json and figures into `folder`, which is created if it does not exist."""
    from eyegender.plots.figures import save_figures
    from eyegender.plots.style import SYNTHETIC_NOTE

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / METRICS_FILE, evaluation.as_json())
    images, predictions = evaluation.images, evaluation.predictions
    write_json(folder / PREDICTIONS_FILE, predictions.to_table())
    note = SYNTHETIC_NOTE if images.samples.source == "synthetic" else None
    plots = prediction_figures(predictions, images.pixels, classes=images.samples.classes, note=note)
    save_figures(plots, folder / FIGURES_FOLDER)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the metrics, the confusion matrix and the warnings."""
    from rich.table import Table

    from eyegender.inference.confusion_table import confusion_table

    images = evaluation.images
    groups = counted_units(images.persons, images.samples.classes)
    which = "all images" if evaluation.split == "all" else f"the {evaluation.split} split"
    title = f"{evaluation.model.reference} on {images.samples.source}, {which}: {len(images):,}{groups}"
    table = Table("metric", "value", "95% interval")
    for name, interval in evaluation.metrics.items():
        value = "-" if math.isnan(interval.value) else f"{interval.value:.4f}"
        table.add_row(name, value, f"{interval.low:.4f} to {interval.high:.4f}")
    lines = [f"Warning: {warning}" for warning in evaluation.warnings]
    if images.skipped:
        lines.append(f"{len(images.skipped)} unreadable images were left out; metrics.json lists them")
    console.print(one_line(title), markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print(confusion_table(evaluation.predictions.confusion_matrix, images.samples.classes, console.width))
    for line in lines:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
