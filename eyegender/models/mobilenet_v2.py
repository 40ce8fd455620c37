"""MobileNet-V2 (Sandler et al. 2018, arXiv 1801.04381) as 19 stages: torchvision's `features`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

# Stage:        0    1    2    3    4    5    6    7    8    9   10   11   12   13   14   15   16   17    18
# Channels:    32   16   24   24   32   32   32   64   64   64   64   96   96   96  160  160  160  320  1280
# Side at 224: 112  112   56   56   28   28   28   14   14   14   14   14   14   14    7    7    7    7     7


class MobileNetV2(Backbone):
    """A first convolution, 17 inverted residual blocks and a last 1x1 convolution."""

    name = "mobilenet_v2"
    default_size = 224
    min_size = 32
    channels = 1280
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    classifier_prefixes = ("classifier.",)

    @classmethod
    def torchvision_network(cls) -> nn.Module:
        from torchvision.models import mobilenet_v2

        network: nn.Module = mobilenet_v2(weights=None)
        return network

    @classmethod
    def named_stages(cls, network: nn.Module) -> list[tuple[str, nn.Module]]:
        return [(f"features_{i}", stage) for i, stage in enumerate(network.get_submodule("features").children())]

    @classmethod
    def imagenet(cls) -> WeightsEnum:
        from torchvision.models import MobileNet_V2_Weights

        return MobileNet_V2_Weights.IMAGENET1K_V1
