"""Heads map the last feature map (B, C, S, S) to logits.

Two classes have one logit per image, shape (B,), whose sigmoid is the probability of label 1. K classes have K logits,
shape (B, K), whose softmax is the probability of each class.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError


class LinearHead(nn.Module):
    """Global average pooling, dropout and one linear layer.

    Args:
        channels: channels of the feature map.
        dropout: dropout probability, 0..1.
        outputs: 1 for two classes, else the number of classes.
    """

    pools: ClassVar[bool] = True  # the head uses only the mean of the map, so the activation store needs only the mean

    def __init__(self, channels: int, dropout: float = 0.2, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, outputs)
        nn.init.normal_(self.linear.weight, 0.0, 0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        pooled = features if features.ndim == 2 else self.pool(features).flatten(1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits.squeeze(1) if self.outputs == 1 else logits


class PaperHead(nn.Module):
    """The head of the paper: three blocks of convolution, ReLU and max pooling, then one linear layer.

    The paper does not give the widths of the three blocks. Pooling rounds sizes up, so maps of any size down to 1x1
    are accepted; the map after the last block is averaged.
    """

    pools: ClassVar[bool] = False

    def __init__(
        self,
        channels: int,
        dropout: float = 0.2,
        outputs: int = 1,
        widths: tuple[int, int, int] = (256, 128, 64),
    ) -> None:
        super().__init__()
        self.outputs = outputs
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = LinearHead(channels, dropout, outputs)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.blocks(features))
        return logits


HEADS: dict[str, type[LinearHead] | type[PaperHead]] = {"linear": LinearHead, "paper": PaperHead}


def outputs_for(n_classes: int) -> int:
    """The number of logits for that many classes."""
    return 1 if n_classes == 2 else n_classes


def probabilities_of(logits: Tensor) -> Tensor:
    """The probabilities of label 1, shape (N,), of one logit per image; of each class, shape (N, K), of K logits."""
    return torch.softmax(logits, dim=1) if logits.ndim > 1 else torch.sigmoid(logits)


def build_head(name: str, channels: int, dropout: float, outputs: int = 1) -> LinearHead | PaperHead:
    """The head called `name` for a feature map with `channels` channels.

    Raises:
        UserError: there is no head of that name.
    """
    if name not in HEADS:
        raise UserError(f"unknown head {name!r}; known: {', '.join(sorted(HEADS))}; set model.head")
    return HEADS[name](channels, dropout, outputs)
