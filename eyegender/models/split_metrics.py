"""Collects the predictions of a split over batches and processes, and computes its metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from eyegender.models.heads import probabilities_of
from eyegender.models.metrics import COUNT_METRICS, METRICS, confusion_cells, weighted_metrics

# torchmetrics, which computed these in version 0.1, returns float32. Rounding keeps equal results of runs equal.
_FLOAT32 = (*COUNT_METRICS, "auroc")


class SplitMetrics(Metric):
    """Collects logits, labels, losses and positions of images.

    `compute` returns the loss, `metrics.METRICS` and, of two classes, the counts tn, fp, fn and tp. torchmetrics
    gathers the state over DDP ranks; an image that pads the last batch of a rank counts once.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]
    losses: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.computed_on: dict[str, Tensor] = {}
        for name in ("logits", "labels", "losses", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, losses: Tensor, index: Tensor) -> None:
        """Add one batch; each tensor has the shape (B,), and logits of K classes have the shape (B, K)."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels.detach().long())
        self.losses.append(losses.detach().float())
        self.index.append(index.detach())

    def sums(self, start: int = 0) -> tuple[float, int, int]:
        """Sum of losses, right predictions and images of this process's batches from number `start` on."""
        logits, labels = torch.cat(self.logits[start:]), torch.cat(self.labels[start:])
        predicted = (logits > 0).long() if logits.ndim == 1 else logits.argmax(dim=1)
        right = int((predicted == labels).sum())
        return float(torch.cat(self.losses[start:]).sum()), right, len(labels)

    def collected(self) -> dict[str, Tensor]:
        """Logits, labels, losses and index of each image once, in order of index, on the CPU."""
        state: dict[str, Any] = {name: getattr(self, name) for name in ("logits", "labels", "losses", "index")}
        joined = {k: (v if isinstance(v, Tensor) else torch.cat(v)).cpu() for k, v in state.items()}
        order = torch.argsort(joined["index"], stable=True)
        ordered = joined["index"][order]
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return {k: v[order[first]] for k, v in joined.items()}

    def compute(self) -> dict[str, float]:
        """The metrics of everything collected so far, by all ranks, which is in `computed_on` afterwards."""
        self.computed_on = found = self.collected()
        return metrics_from_logits(found["logits"], found["labels"]) | {"loss": found["losses"].double().mean().item()}


def metrics_from_logits(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """All of `metrics.METRICS` and, of two classes, the counts tn, fp, fn and tp.

    Args:
        logits: shape (N,) for two classes, (N, K) for K.
        labels: true class of each image, shape (N,).
    """
    truth, probabilities = labels.numpy(), probabilities_of(logits.double()).numpy()
    values = weighted_metrics(METRICS, truth, probabilities, np.ones((1, len(truth))))
    rounded = {name: float(np.float32(value[0]) if name in _FLOAT32 else value[0]) for name, value in values.items()}
    if probabilities.ndim > 1:
        return rounded
    counts = confusion_cells(truth, probabilities).sum(axis=0).tolist()
    return rounded | dict(zip(("tn", "fp", "fn", "tp"), map(float, counts), strict=True))
