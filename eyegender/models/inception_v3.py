"""Inception-V3 (Szegedy et al. 2015, arXiv 1512.00567) as 16 stages, without the auxiliary head.

The auxiliary head is omitted: it needs at least 139 pixels and helps only when all stages train from scratch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from eyegender.models.backbone import Backbone

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

# A pooling layer belongs to the stage after it: the activations stored in front of it would be four times as large.
_STAGES = (  # shapes at 299 pixels
    ("Conv2d_1a_3x3",),  # (B, 32, 149, 149)
    ("Conv2d_2a_3x3",),  # (B, 32, 147, 147)
    ("Conv2d_2b_3x3",),  # (B, 64, 147, 147)
    ("maxpool1", "Conv2d_3b_1x1"),  # (B, 80, 73, 73)
    ("Conv2d_4a_3x3",),  # (B, 192, 71, 71)
    ("maxpool2", "Mixed_5b"),  # (B, 256, 35, 35)
    ("Mixed_5c",),  # (B, 288, 35, 35)
    ("Mixed_5d",),  # (B, 288, 35, 35)
    ("Mixed_6a",),  # (B, 768, 17, 17)
    ("Mixed_6b",),  # (B, 768, 17, 17)
    ("Mixed_6c",),  # (B, 768, 17, 17)
    ("Mixed_6d",),  # (B, 768, 17, 17)
    ("Mixed_6e",),  # (B, 768, 17, 17)
    ("Mixed_7a",),  # (B, 1280, 8, 8)
    ("Mixed_7b",),  # (B, 2048, 8, 8)
    ("Mixed_7c",),  # (B, 2048, 8, 8)
)


class InceptionV3(Backbone):
    """Five convolution blocks and eleven Mixed blocks."""

    name = "inception_v3"
    default_size = 299
    min_size = 75
    channels = 2048
    # torchvision's ImageNet weights expect -1..1; its `transform_input` does just this arithmetic.
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    classifier_prefixes = ("fc.", "AuxLogits.")

    @classmethod
    def torchvision_network(cls) -> nn.Module:
        from torchvision.models import inception_v3

        network: nn.Module = inception_v3(weights=None, aux_logits=False, init_weights=True)
        return network

    @classmethod
    def named_stages(cls, network: nn.Module) -> list[tuple[str, nn.Module]]:
        stages: list[tuple[str, nn.Module]] = []
        for parts in _STAGES:
            modules = [network.get_submodule(part) for part in parts]
            stages.append((parts[-1], modules[0] if len(modules) == 1 else nn.Sequential(*modules)))
        return stages

    @classmethod
    def imagenet(cls) -> WeightsEnum:
        from torchvision.models import Inception_V3_Weights

        return Inception_V3_Weights.IMAGENET1K_V1
