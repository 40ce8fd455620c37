"""ResNet-18 (He et al. 2015, arXiv 1512.03385) as 9 stages."""

from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from eyegender.models.backbone import Backbone

# Stage:        0   1   2    3    4    5    6    7    8
# Channels:    64  64  64  128  128  256  256  512  512
# Side at 224: 56  56  56   28   28   14   14    7    7


class ResNet18(Backbone):
    """The first convolution with its pooling, then 8 residual blocks."""

    name = "resnet18"
    default_size = 224
    min_size = 32
    channels = 512
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    classifier_prefixes = ("fc.",)

    @classmethod
    def torchvision_network(cls) -> nn.Module:
        return resnet18(weights=None)

    @classmethod
    def named_stages(cls, network: nn.Module) -> list[tuple[str, nn.Module]]:
        first = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        blocks = [block for layer in layers for block in layer]
        return [("first", first), *((f"block_{i}", block) for i, block in enumerate(blocks))]

    @classmethod
    def imagenet(cls) -> ResNet18_Weights:
        return ResNet18_Weights.IMAGENET1K_V1
