"""Backbone and head as one module that maps images to logits, with the first stages frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eyegender.models.backbone import Backbone


class Network(nn.Module):
    """Trains the head and the last `depth` stages; earlier stages are frozen, with their batch-norm statistics.

    Args:
        backbone: its stages become part of the network.
        head: maps the last feature map to logits (B,), or (B, K) for K classes.
        depth: number of stages to train, 0..len(stages).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, head: nn.Module, depth: int) -> None:
        super().__init__()
        self.stages = backbone.stages
        self.head = head
        self.cut = len(self.stages) - depth  # index of the first stage that trains
        self.features_start = self.cut  # number of stages before the stored outputs that `from_features` gets
        # Not persistent: they belong to the class of the backbone, and no checkpoint must change them.
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.memory_format = torch.contiguous_format
        self.prefix.requires_grad_(requires_grad=False)
        self.train(mode=True)

    @property
    def outputs(self) -> int:
        """The number of logits per image: 1 for two classes, else the number of classes."""
        return int(getattr(self.head, "outputs", 1))

    @property
    def prefix(self) -> nn.Sequential:
        """The frozen stages."""
        return self.stages[: self.cut]

    @property
    def suffix(self) -> nn.Sequential:
        """The stages that train."""
        return self.stages[self.cut :]

    def train(self, mode: bool = True) -> Network:
        """Set the mode of the stages that train; frozen stages stay in eval mode, or their statistics would drift."""
        super().train(mode)
        self.prefix.eval()
        return self

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 1 or 3, S, S), uint8 or float in 0..255, to the backbone's input (B, 3, S, S)."""
        scaled = pixels.to(self.mean.dtype) / 255
        return (scaled - self.mean) / self.std  # broadcasting repeats a gray channel three times

    def forward(self, inputs: Tensor, *, is_features: bool = False) -> Tensor:
        """Logits (B,), or (B, K) for K classes.

        Args:
            inputs: pixels (B, 1 or 3, S, S), uint8 or float in 0..255.
            is_features: `inputs` are stored outputs of frozen stages instead, in any floating-point type.
        """
        if is_features:
            return self.from_features(inputs)
        x = self.normalise(inputs).contiguous(memory_format=self.memory_format)
        with torch.no_grad():
            x = self.prefix(x)
        return self._trained_part(x)

    def __call__(self, inputs: Tensor, *, is_features: bool = False) -> Tensor:
        """`forward`, compiled if `compile_steps` was called and the network is in training mode."""
        if not self.training:  # evaluation has other shapes and is too short to pay for their compilation
            return cast("Tensor", self._call_impl(inputs, is_features=is_features))  # type: ignore[no-untyped-call]
        if self._compiled_call_impl is not None:
            torch._dynamo.maybe_mark_dynamic(inputs, 0)  # the batches of an epoch differ in size by one image
        return cast("Tensor", super().__call__(inputs, is_features=is_features))

    def compile_steps(self) -> None:
        """Compile training steps from the next one on; copies, the state dict and evaluation are not affected."""
        torch.compiler.reset()  # compiled forms of earlier networks count towards torch's limit
        self.compile(options={"fallback_random": True})  # dropout draws the same numbers as without compilation

    def from_features(self, features: Tensor) -> Tensor:
        """Logits from stored outputs of the first `features_start` stages, in any floating-point type."""
        x = features.to(self.mean.dtype)
        x = x.contiguous(memory_format=self.memory_format) if x.ndim == 4 else x
        if self.features_start < self.cut:
            with torch.no_grad():
                x = self.stages[self.features_start : self.cut](x)
        return self._trained_part(x)

    def _trained_part(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.suffix(features))
        return logits.float()

    def use_memory_format(self, memory_format: torch.memory_format) -> None:
        """Store weights, and from now on inputs, in this memory format."""
        self.memory_format = memory_format
        self.to(memory_format=memory_format)

    def use_channels_last(self) -> None:
        """Store weights, and from now on inputs, channels last."""
        self.use_memory_format(torch.channels_last)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that train."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)
