"""Simulated runs for the tests of the comparison."""

from __future__ import annotations

import numpy as np

from eyegender.comparison.run_record import ModelCosts, RunRecord
from eyegender.tracking.predictions import Predictions

IMAGES = 120


def table(seed: int, skill: float, n: int = IMAGES, first: int = 0) -> Predictions:
    """Two images per person; the same seed and skill give the same predictions."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(first, first + n) // 2) % 2
    scores = 1 / (1 + np.exp(-rng.normal((2 * labels - 1) * skill, 1.0)))
    rows = range(first, first + n)
    return Predictions(
        names=tuple(f"{i:04d}.jpg" for i in rows),
        keys=tuple(f"{i * 7919 % 100003:06x}" for i in rows),
        labels=labels.astype(np.int64),
        probabilities=scores,
        persons=tuple(f"p{i // 2}" for i in rows),
        attributes={
            "Eyeglasses": np.where(np.arange(n) % 3 == 0, 1, -1).astype(np.int8),
            "Male": np.where(labels == 1, 1, -1).astype(np.int8),
        },
    )


def run(
    name: str,
    predictions: Predictions | None,
    *,
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    costs: ModelCosts | None = None,
    trials: int | None = None,
    selected_by: str = "val/accuracy",
) -> RunRecord:
    return RunRecord(
        run_id=f"{name:0<32}",
        name=name,
        params={"model.name": "mobilenet_v2", "note": name, "seed": "0"} | (params or {}),
        metrics={},
        history=[{"train/accuracy": 0.6, "val/accuracy": 0.55}, {"train/accuracy": 0.8, "val/accuracy": 0.75}],
        predictions=predictions,
        tags={"split.kind": "person", "split.fingerprint": "s1", "data.source": "folder"} | (tags or {}),
        costs=costs or ModelCosts(),
        trials=trials,
        selected_by=selected_by,
    )


def shuffled(predictions: Predictions) -> Predictions:
    order = np.random.default_rng(0).permutation(len(predictions))
    return Predictions(
        names=tuple(predictions.names[i] for i in order),
        keys=tuple(predictions.keys[i] for i in order),
        labels=predictions.labels[order],
        probabilities=predictions.probabilities[order],
        persons=tuple((predictions.persons or ())[i] for i in order),
        attributes={name: values[order] for name, values in predictions.attributes.items()},
    )
