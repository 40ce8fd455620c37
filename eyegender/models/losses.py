"""The loss of each image: binary cross-entropy of one logit for two classes, cross-entropy of K logits for more.

Targets are labels (B,) or, after mixup, probabilities: (B,) of label 1 for two classes, (B, K) for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def losses(logits: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """The loss (B,) of each image.

    Args:
        logits: shape (B,) for two classes, (B, K) for more.
        targets: labels or probabilities, see above.
        weight: weight of label 1 for two classes, or of each class, shape (K,); None for 1.
        smoothing: label smoothing s in 0..1, which moves the share s of each target to all classes equally.
    """
    if logits.ndim > 1:
        return functional.cross_entropy(logits, targets, weight, reduction="none", label_smoothing=smoothing)
    target = targets.float()
    if smoothing:
        target = target * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")


def mixed(labels: Tensor, others: Tensor, share: float, outputs: int) -> Tensor:
    """The targets of images that are averaged with `others`, whose weight is `share`, of a network with `outputs`."""
    targets = labels.float() if outputs == 1 else functional.one_hot(labels, outputs).float()
    return targets.lerp(targets[others], share)


def most_likely(targets: Tensor) -> Tensor:
    """The labels (B,) with the largest target."""
    if not targets.is_floating_point():
        return targets
    return targets.argmax(1) if targets.ndim > 1 else (targets > 0.5).long()
