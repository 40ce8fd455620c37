"""The metrics of a split, computed in this one place from the logits of all its pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_calibration_error,
    binary_confusion_matrix,
    binary_f1_score,
    binary_precision,
    binary_recall,
    binary_specificity,
)

CALIBRATION_BINS = 15


class SplitMetrics(Metric):
    """Collects logits, labels, losses and picture indices; male = 1 is the positive class, as in the paper.

    `compute` returns Python floats: loss, accuracy, precision, recall, specificity, f1, auroc, calibration_error (all
    in 0..1 but the loss; expected calibration error over 15 bins) and the counts tn, fp, fn, tp. The state is gathered
    over DDP ranks by torchmetrics; a picture that was padded to fill the last batches is counted once.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]
    losses: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels", "losses", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, losses: Tensor, index: Tensor) -> None:
        """One batch, each of shape (B,)."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels.detach().long())
        self.losses.append(losses.detach().float())
        self.index.append(index.detach())

    def collected(self) -> dict[str, Tensor]:
        """Logits, labels, losses and index of every picture once, in order of index, on the CPU."""
        state: dict[str, Any] = {name: getattr(self, name) for name in ("logits", "labels", "losses", "index")}
        joined = {k: (v if isinstance(v, Tensor) else torch.cat(v)).cpu() for k, v in state.items()}
        order = torch.argsort(joined["index"], stable=True)
        ordered = joined["index"][order]
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return {k: v[order[first]] for k, v in joined.items()}

    def compute(self) -> dict[str, float]:
        every = self.collected()
        return metrics(every["logits"], every["labels"]) | {"loss": every["losses"].double().mean().item()}


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """All threshold and ranking metrics of N logits and labels 0/1, each of shape (N,)."""
    probability = torch.sigmoid(logits.double())
    counts = binary_confusion_matrix(probability, labels).flatten().tolist()
    both = 0 < int(labels.sum()) < labels.numel()
    values = {
        "accuracy": binary_accuracy(probability, labels),
        "precision": binary_precision(probability, labels),
        "recall": binary_recall(probability, labels),
        "specificity": binary_specificity(probability, labels),
        "f1": binary_f1_score(probability, labels),
        # Undefined with one class only; torchmetrics would warn and say 0.
        "auroc": binary_auroc(probability, labels) if both else torch.nan,
        "calibration_error": binary_calibration_error(probability, labels, n_bins=CALIBRATION_BINS),
    }
    return {k: float(v) for k, v in values.items()} | dict(
        zip(("tn", "fp", "fn", "tp"), map(float, counts), strict=True)
    )
