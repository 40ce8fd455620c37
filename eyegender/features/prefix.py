"""The frozen stages as one fast function, and the views of an image that it is applied to."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d

if TYPE_CHECKING:
    from eyegender.models.augment import Augment
    from eyegender.models.network import Network


class FrozenPrefix:
    """Stages `start` to `stop` of a network in eval mode and without gradients, with batch-norm folded.

    Args:
        network: the network; it is copied, not changed.
        start: index of the first stage; with 0 the input is images, otherwise the output of stage `start - 1`.
        stop: index of the first stage that is left out.
        pool: average the last map over its pixels, as a head with `pools` does.
        dtype: type to compute in.
        device: device to compute on.
        channels_last: memory format of weights and inputs.
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
        self.takes_images = start == 0
        self.mean, self.std = network.mean.to(self.device), network.std.to(self.device)

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Map pixels (B, 1 or 3, S, S) in 0..255 or features (B, C, h, w) to features, pooled ones (B, C)."""
        x = inputs.to(self.device)
        if self.takes_images:
            x = (x.to(self.mean.dtype) / 255 - self.mean) / self.std
        x = x.to(self.dtype).contiguous(memory_format=self.memory_format)
        x = cast("Tensor", self.stages(x))
        # The mean is computed in float32: a mean of 64 numbers is more precise than 8 bits can hold.
        return x.float().mean((2, 3)) if self.pool and x.ndim == 4 else x


def fold_batch_norm(stages: nn.Sequential) -> nn.Sequential:
    """Fold each batch-norm that directly follows a convolution into it, in place; the function stays the same.

    Only the modules of an `nn.Sequential` (such as torchvision's Conv2dNormActivation), which run in order, and
    torchvision's BasicConv2d are folded. The forward method of any other module is unknown, so it is not changed. That
    includes subclasses: timm has batch-norms with an activation, and convolutions that standardize their weights.
    """
    for module in stages.modules():
        if isinstance(module, BasicConv2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            names = list(module._modules)
            for name, following in pairwise(names):
                convolution, norm = module._modules[name], module._modules[following]
                if type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                    module._modules[name] = fuse_conv_bn_eval(convolution, norm)
                    module._modules[following] = nn.Identity()
    return stages


@dataclass(frozen=True)
class Views:
    """The views of an image that are stored: the original, its mirror image, then random augmentations.

    Args:
        mirrored: include the mirror image.
        draws: number of random augmentations per image, 0 or more.
        augment: the augmentation; None if `draws` is 0.
        seed: seed of the augmentations.
    """

    mirrored: bool = False
    draws: int = 0
    augment: Augment | None = None
    seed: int = 0

    def __len__(self) -> int:
        return 1 + self.mirrored + self.draws

    @property
    def description(self) -> str:
        """Everything that the views depend on, as text; it is part of the name of an entry."""
        names = "original mirrored" if self.mirrored else "original"
        return f"{names} {self.draws} x {self.augment} seed {self.seed}" if self.draws else names

    def make(self, pixels: Tensor, view: int, first_row: int) -> Tensor:
        """One view of pixels (B, C, S, S) in 0..255, uint8 or float; same shape and range.

        Args:
            pixels: pixels of some images.
            view: number of the view, 0..len - 1.
            first_row: position of the first of these images among all. It seeds the random augmentations together with
                `seed` and `view`, so that every process computes the same ones.
        """
        if view == 0:
            return pixels
        if view == 1 and self.mirrored:
            return pixels.flip(3)
        assert self.augment is not None
        generator = torch.Generator().manual_seed(hash((self.seed, view, first_row)) & 0x7FFF_FFFF_FFFF_FFFF)
        return self.augment(pixels, generator)


def training_views(count: int, augment: Augment | None, seed: int) -> Views:
    """At most `count` views of a training image.

    Without augmentation there is only the original; the mirror image is included if the augmentation flips images.
    """
    if augment is None or count == 1:
        return Views()
    mirrored = augment.flip > 0
    draws = count - 1 - mirrored
    return Views(mirrored, draws, augment if draws else None, seed if draws else 0)
