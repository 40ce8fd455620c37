"""Backbone, cut and head as one module: pictures in, logits out."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eyegender.models.backbone import Backbone


class Network(nn.Module):
    """The last `depth` stages and the head train; everything before is frozen, batch-norm statistics included.

    Args:
        backbone: its stages are taken over.
        head: maps the last feature map to logits (B,).
        depth: number of stages that train, 0..len(stages).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, head: nn.Module, depth: int) -> None:
        super().__init__()
        self.stages = backbone.stages
        self.head = head
        self.cut = len(self.stages) - depth
        # Not persistent: they belong to the backbone's class, and a checkpoint must not be able to change them.
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.memory_format = torch.contiguous_format
        self.prefix.requires_grad_(requires_grad=False)
        self.train(mode=True)

    @property
    def prefix(self) -> nn.Sequential:
        """The frozen stages."""
        return self.stages[: self.cut]

    @property
    def suffix(self) -> nn.Sequential:
        """The stages that train."""
        return self.stages[self.cut :]

    def train(self, mode: bool = True) -> Network:
        """Training mode for what trains; frozen stages stay in eval mode, or their statistics would drift."""
        super().train(mode)
        self.prefix.eval()
        return self

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 1 or 3, S, S), uint8 or float in 0..255, to the backbone's normalised input (B, 3, S, S)."""
        scaled = pixels.to(self.mean.dtype) / 255
        return (scaled - self.mean) / self.std  # a single gray channel is repeated to three by broadcasting

    def forward(self, given: Tensor, *, at_cut: bool = False) -> Tensor:
        """Pixels (B, 1 or 3, S, S), uint8 or float in 0..255, to logits (B,).

        With `at_cut`, from what a store keeps of the frozen prefix's output, in whatever type.
        """
        if at_cut:
            return self.from_store(given)
        x = self.normalise(given).contiguous(memory_format=self.memory_format)
        with torch.no_grad():
            x = self.prefix(x)
        return self.from_cut(x)

    def __call__(self, given: Tensor, *, at_cut: bool = False) -> Tensor:
        """`forward`, compiled where that is switched on and the network trains."""
        if not self.training:  # evaluation has other shapes, and is too short to pay for them
            return cast("Tensor", self._call_impl(given, at_cut=at_cut))  # type: ignore[no-untyped-call]
        if self._compiled_call_impl is not None:
            torch._dynamo.maybe_mark_dynamic(given, 0)  # batches of an epoch differ by one picture
        return cast("Tensor", super().__call__(given, at_cut=at_cut))

    def compile_steps(self) -> None:
        """Compile training steps from the next one on. Copies, state and evaluation stay as they are."""
        torch.compiler.reset()  # what an earlier network left counts against the number of compiled forms
        self.compile(options={"fallback_random": True})  # dropout draws what it would draw uncompiled

    def from_cut(self, features: Tensor) -> Tensor:
        """The frozen prefix's output to logits (B,)."""
        logits: Tensor = self.head(self.suffix(features))
        return logits.float()

    def from_store(self, features: Tensor) -> Tensor:
        """What a store keeps of the frozen prefix's output, in whatever type, to logits (B,)."""
        x = features.to(self.mean.dtype)
        return self.from_cut(x.contiguous(memory_format=self.memory_format) if x.ndim == 4 else x)

    def use_channels_last(self) -> None:
        """Lay weights out, and from now on inputs, with the channels of a pixel side by side."""
        self.memory_format = torch.channels_last
        self.to(memory_format=torch.channels_last)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that an optimizer may change."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)
