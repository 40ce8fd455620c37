from __future__ import annotations

import pytest
import torch
from torch import nn

from eyegender.features.prefix import FrozenPrefix, fold_batch_norm
from eyegender.models.backbone import Backbone
from eyegender.models.heads import LinearHead
from eyegender.models.inception_v3 import InceptionV3
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network

SIZES = {MobileNetV2: 32, InceptionV3: 75}


@pytest.fixture(scope="module", params=[MobileNetV2, InceptionV3], ids=["mobilenet_v2", "inception_v3"])
def network(request: pytest.FixtureRequest) -> Network:
    """Frozen altogether, with batch-norm statistics of real passes: fresh ones would make folding trivial."""
    cls: type[Backbone] = request.param
    torch.manual_seed(0)
    backbone = cls()
    network = Network(backbone, LinearHead(backbone.channels), 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    network.stages.train()
    with torch.no_grad():
        network.stages(network.normalise(pixels(network)))
    return network.train()


def pixels(network: Network) -> torch.Tensor:
    size = SIZES[MobileNetV2 if len(network.stages) == 19 else InceptionV3]
    return torch.randint(0, 256, (4, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def close(found: torch.Tensor, expected: torch.Tensor, share: float = 1e-3) -> bool:
    return bool((found.float() - expected).norm() < share * expected.norm())


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_folded_prefix_computes_the_same(network: Network, channels_last: bool) -> None:
    for stop in (1, len(network.stages) // 2, len(network.stages)):
        expected = network.stages[:stop](network.normalise(pixels(network)))
        found = FrozenPrefix(network, 0, stop, channels_last=channels_last)(pixels(network))
        assert close(found, expected)


def test_no_batch_norm_is_left(network: Network) -> None:
    prefix = FrozenPrefix(network, 0, len(network.stages))
    assert not [module for module in prefix.stages.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]  # it worked on a copy


def test_two_consecutive_prefixes_equal_one(network: Network) -> None:
    middle, end = len(network.stages) // 2, len(network.stages)
    whole = FrozenPrefix(network, 0, end)(pixels(network))
    parts = FrozenPrefix(network, middle, end)(FrozenPrefix(network, 0, middle)(pixels(network)))
    assert close(parts, whole)


def test_a_pooled_prefix_gives_what_the_head_would_pool(network: Network) -> None:
    end = len(network.stages)
    expected = network.stages(network.normalise(pixels(network))).mean((2, 3))
    found = FrozenPrefix(network, 0, end, pool=True)(pixels(network))
    assert found.shape == (4, expected.shape[1])
    assert close(found, expected)
    # A map that was stored before is only averaged.
    assert close(
        FrozenPrefix(network, end, end, pool=True)(network.stages(network.normalise(pixels(network)))), expected, 1e-5
    )


def test_bfloat16_is_close(network: Network) -> None:
    stop = len(network.stages) // 2
    expected = network.stages[:stop](network.normalise(pixels(network)))
    assert close(FrozenPrefix(network, 0, stop, dtype=torch.bfloat16)(pixels(network)), expected, 0.3)


def test_unknown_modules_are_left_as_they_are() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convolution(self.norm(x))  # the other way round

    stages = fold_batch_norm(nn.Sequential(Odd()).eval())
    assert isinstance(stages[0].norm, nn.BatchNorm2d)
