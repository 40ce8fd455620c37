"""The frozen stages as one quick function: batch-norm folded into convolutions, channels last, in any precision."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d

if TYPE_CHECKING:
    from eyegender.models.network import Network


class FrozenPrefix:
    """Stages `start` to `stop` of a network, in eval mode, without gradients.

    Args:
        network: is copied, not changed.
        start: 0 takes pictures; otherwise what stage `start - 1` gives.
        stop: first stage that is left out.
        pool: average the last map over its pixels, as a head with `pools` would.
        dtype: to compute in.
        device: to compute on.
    """

    def __init__(
        self,
        network: Network,
        start: int,
        stop: int,
        *,
        pool: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        self.device, self.dtype, self.pool = torch.device(device), dtype, pool
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        stages = fold_batch_norm(copy.deepcopy(network.stages[start:stop]).eval())
        self.stages = stages.requires_grad_(requires_grad=False).to(self.device, dtype)
        for parameter in self.stages.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.memory_format)
        self.takes_pictures = start == 0
        self.mean, self.std = network.mean.to(self.device), network.std.to(self.device)

    @torch.inference_mode()
    def __call__(self, given: Tensor) -> Tensor:
        """Pixels (B, 1 or 3, S, S) in 0..255, or features (B, C, h, w), to features of that form or pooled (B, C)."""
        x = given.to(self.device)
        if self.takes_pictures:
            x = (x.to(self.mean.dtype) / 255 - self.mean) / self.std
        x = x.to(self.dtype).contiguous(memory_format=self.memory_format)
        x = cast("Tensor", self.stages(x))
        # The mean is taken in float32: 64 numbers of 8 bits each would lose what averaging wins.
        return x.float().mean((2, 3)) if self.pool and x.ndim == 4 else x


def fold_batch_norm(stages: nn.Sequential) -> nn.Sequential:
    """Fold each batch-norm that directly follows a convolution into it, in place; the function stays the same.

    Looks into `nn.Sequential` (torchvision's Conv2dNormActivation among them), where the order is the data's, and into
    torchvision's BasicConv2d. What other modules do inside is theirs; they are left as they are.
    """
    for module in stages.modules():
        if isinstance(module, BasicConv2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
        elif isinstance(module, nn.Sequential):
            names = list(module._modules)
            for name, following in pairwise(names):
                convolution, norm = module._modules[name], module._modules[following]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module._modules[name] = fuse_conv_bn_eval(convolution, norm)
                    module._modules[following] = nn.Identity()
    return stages
