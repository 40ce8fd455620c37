"""All the test metrics of one model on labelled pictures, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError
from eyegender.core.progress import show_progress
from eyegender.models.inference import BATCH
from eyegender.models.intervals import Interval, bootstrap_intervals
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.run_artifacts import read_predictions

if TYPE_CHECKING:
    from eyegender.inference.labeled_images import LabeledImages
    from eyegender.inference.load import LoadedModel


@dataclass(frozen=True)
class Evaluation:
    """What a model said of N pictures, and what that is worth.

    Args:
        table: one prediction per picture.
        metrics: each with its 95% interval.
        warnings: sentences to read before the numbers.
    """

    table: Predictions
    metrics: dict[str, Interval]
    warnings: tuple[str, ...]

    def as_json(self, model: LoadedModel, pictures: LabeledImages, part: str) -> dict[str, Any]:
        """What `metrics.json` holds; an undefined value (the AUROC of one class) is null."""
        (tn, fp), (fn, tp) = self.table.confusion_matrix.tolist()
        persons = None if pictures.persons is None else len(set(pictures.persons))
        return {
            "model": model.reference,
            "run": model.run_id,
            "data": pictures.samples.source,
            "part": part,
            "pictures": len(self.table),
            "persons": persons,
            "positive": model.card.classes[1],
            "size": model.card.size,
            "color": model.card.color,
            "metrics": {name: _plain(interval) for name, interval in self.metrics.items()},
            "counts": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
            "skipped": dict(pictures.skipped),
            "warnings": list(self.warnings),
        }


def evaluate(model: LoadedModel, pictures: LabeledImages) -> Evaluation:
    """Ask the model about every picture.

    Raises:
        UserError: the model's answers are not numbers.
    """
    samples = pictures.samples
    parts = []
    with show_progress("evaluating", len(samples)) as advance:
        for start in range(0, len(samples), BATCH):
            index = np.arange(start, min(start + BATCH, len(samples)), dtype=np.int64)
            parts.append(model.probabilities(pictures.pixels(index)))
            advance(len(index))
    says = np.concatenate(parts).astype(np.float64)
    if np.isnan(says).any():
        raise UserError(
            f"{model.reference} answers NaN for {int(np.isnan(says).sum())} pictures: it diverged; train anew"
        )
    table = Predictions(
        names=samples.names,
        keys=samples.digests,
        labels=samples.labels.astype(np.int64),
        probabilities=says,
        persons=None if pictures.persons is None else tuple(pictures.persons),
        attributes=samples.attributes,
    )
    metrics = bootstrap_intervals(table.labels, table.probabilities, table.persons)
    return Evaluation(table, metrics, _warnings(model, pictures))


def _warnings(model: LoadedModel, pictures: LabeledImages) -> tuple[str, ...]:
    found = []
    if pictures.samples.source == "synthetic":
        found.append("Drawn eyes: what the model reaches says nothing about real eyes.")
    if pictures.conflicts:
        found.append(
            f"{len(pictures.conflicts):,} pictures are in both classes ({' = '.join(pictures.conflicts[0])} first): "
            "one copy of each counts as wrong whatever the model says; data.on_conflict=drop leaves them out."
        )
    if model.store is not None and model.run_id is not None:
        tested = read_predictions(model.store, model.run_id)
        known = set() if tested is None else set(tested.keys)
        shared = sum(digest in known for digest in pictures.samples.digests)
        if 0 < shared < len(pictures):
            found.append(
                f"{shared:,} of these {len(pictures):,} pictures are the test part of the model's own data: the others "
                "are probably pictures that it was trained on; add part=test, with the data.split options of its run."
            )
    return tuple(found)


def _plain(interval: Interval) -> dict[str, float | None]:
    names = ("value", "low", "high")
    return {name: None if np.isnan(value) else float(value) for name, value in zip(names, interval, strict=True)}
