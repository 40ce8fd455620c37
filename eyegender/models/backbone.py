"""A backbone is a list of stages, from the picture to the last feature map."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class Backbone(nn.Module):
    """A convolutional network without its classifier, cut into stages at which fine-tuning can begin.

    A subclass names itself, says what pictures it takes, builds torchvision's network and cuts it up. Everything else
    (freezing, the optimizer's groups, weights, the activation store, sweeps) works from the list of stages alone.
    """

    name: ClassVar[str]
    default_size: ClassVar[int]  # side of the square input in pixels that the published network was made for
    min_size: ClassVar[int]  # smallest side for which every stage has at least one pixel to work on
    channels: ClassVar[int]  # of the last feature map
    mean: ClassVar[tuple[float, float, float]]  # per channel, of pixels scaled to 0..1, as in pre-training
    std: ClassVar[tuple[float, float, float]]
    classifier_prefixes: ClassVar[tuple[str, ...]]  # keys of a full state dict that belong to no stage

    def __init__(self) -> None:
        super().__init__()
        network = self.torchvision_network()
        self.stages = nn.Sequential(OrderedDict(self.cut(network)))

    @classmethod
    def torchvision_network(cls) -> nn.Module:
        """The whole network with random weights, as torchvision builds it."""
        raise NotImplementedError

    @classmethod
    def cut(cls, network: nn.Module) -> list[tuple[str, nn.Module]]:
        """The named stages of `network`, sharing its parameters, in the order in which a picture passes them."""
        raise NotImplementedError

    @classmethod
    def imagenet(cls) -> WeightsEnum:
        """torchvision's entry for the ImageNet weights (its address and checks)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures (B, 3, S, S) to the last feature map (B, channels, S', S')."""
        features: Tensor = self.stages(x)
        return features

    @classmethod
    def check_size(cls, size: int) -> int:
        """The input side to use: `size`, or the backbone's own when it is 0.

        Raises:
            UserError: the network has a stage that would be left without a pixel.
        """
        if size and size < cls.min_size:
            raise UserError(
                f"{cls.name} needs pictures of at least {cls.min_size}x{cls.min_size} pixels, got {size}; "
                f"set data.size={cls.min_size} or more"
            )
        return size or cls.default_size


def resolve_depth(finetune_depth: int | str, stages: int, name: str) -> int:
    """How many stages train, counted from the end.

    Raises:
        UserError: not `all` and not within 0..stages.
    """
    if finetune_depth == "all":
        return stages
    try:
        depth = int(finetune_depth)
    except ValueError:
        depth = -1
    if not 0 <= depth <= stages:
        raise UserError(
            f"finetune_depth must be 0..{stages} for {name} or 'all', got {finetune_depth}; set model.finetune_depth"
        )
    return depth
