"""Heads map the last feature map (B, C, S, S) to one logit per image (B,). Its sigmoid is the probability of male."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from eyegender.core.errors import UserError


class LinearHead(nn.Module):
    """Global average pooling, dropout and one linear layer."""

    pools: ClassVar[bool] = True  # the head uses only the mean of the map, so the activation store needs only the mean

    def __init__(self, channels: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, 1)
        nn.init.normal_(self.linear.weight, 0.0, 0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        pooled = features if features.ndim == 2 else self.pool(features).flatten(1)
        logits: Tensor = self.linear(self.dropout(pooled)).squeeze(1)
        return logits


class PaperHead(nn.Module):
    """The head of the paper: three blocks of convolution, ReLU and max pooling, then one linear layer.

    The paper does not give the widths of the three blocks. Pooling rounds sizes up, so maps of any size down to 1x1
    are accepted; the map after the last block is averaged.
    """

    pools: ClassVar[bool] = False

    def __init__(self, channels: int, dropout: float = 0.2, widths: tuple[int, int, int] = (256, 128, 64)) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = LinearHead(channels, dropout)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.blocks(features))
        return logits


HEADS: dict[str, type[LinearHead] | type[PaperHead]] = {"linear": LinearHead, "paper": PaperHead}


def build_head(name: str, channels: int, dropout: float) -> LinearHead | PaperHead:
    """The head called `name` for a feature map with `channels` channels.

    Raises:
        UserError: there is no head of that name.
    """
    if name not in HEADS:
        raise UserError(f"unknown head {name!r}; known: {', '.join(sorted(HEADS))}; set model.head")
    return HEADS[name](channels, dropout)
