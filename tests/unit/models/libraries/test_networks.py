"""What every network of a library must hold; a name in one of the two lists gets all of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError
from eyegender.features.build import Build, open_or_build
from eyegender.features.prefix import FrozenPrefix
from eyegender.models.heads import build_head
from eyegender.models.libraries.library_backbone import LibraryBackbone
from eyegender.models.libraries.timm_backbone import TimmBackbone
from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone
from eyegender.models.network import Network

# The number of stages of each network.
TORCHVISION = {
    "alexnet": 5,
    "squeezenet1_1": 9,
    "resnet18": 9,
    "resnet50": 17,
    "resnext50_32x4d": 17,
    "densenet121": 8,
    "googlenet": 12,
    "inception_v3": 16,
    "mobilenet_v2": 19,
    "mobilenet_v3_small": 13,
    "shufflenet_v2_x0_5": 18,
    "mnasnet0_5": 20,
    "efficientnet_b0": 18,
    "regnet_y_400mf": 17,
    "convnext_tiny": 22,
    "swin_t": 16,
}
TIMM = {
    "resnet10t": 7,
    "resnetv2_50": 17,
    "convnext_atto": 16,
    "mobilenetv3_small_050": 13,
    "tf_efficientnet_b0": 18,
    "regnety_002": 14,
    "ghostnet_050": 18,
    "repvgg_a0": 22,
    "poolformer_s12": 16,
    "edgenext_xx_small": 16,
    "mambaout_femto": 22,
}
CASES = [
    *(
        pytest.param(TorchvisionBackbone, name, stages, id=f"torchvision-{name}")
        for name, stages in TORCHVISION.items()
    ),
    *(pytest.param(TimmBackbone, name, stages, id=f"timm-{name}") for name, stages in TIMM.items()),
]
every_network = pytest.mark.parametrize(("library", "name", "stages"), CASES)


@cache
def built(library: type[LibraryBackbone], name: str) -> LibraryBackbone:
    """A network in which no layer is the identity: many libraries set the last norm of a block to zero."""
    torch.manual_seed(0)
    backbone = library.configured({"name": name})()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.3))
        for key, buffer in backbone.named_buffers():
            if key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif key.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    return backbone.eval()


def size_of(backbone: LibraryBackbone) -> int:
    """A size that differs from those at which the network was observed, where it accepts one."""
    for size in (80, 112):
        try:
            return backbone.check_size(size)
        except UserError:
            continue
    return backbone.default_size


def original(backbone: LibraryBackbone) -> nn.Module:
    """The library's complete network with the weights of the backbone."""
    network = type(backbone).build().eval()
    own = backbone.stages.state_dict()
    state = network.state_dict()
    for mine, theirs in backbone.library_keys.items():
        state[theirs].copy_(own[mine])
    return network


def before_the_classifier(network: nn.Module, x: Tensor) -> Tensor:
    """What torchvision's classifier gets, which is the last of its children; for timm, its own features."""
    seen: list[Tensor] = []
    with torch.no_grad():
        if hasattr(network, "forward_features"):
            return network.forward_features(x)  # type: ignore[operator]
        last = list(network.children())[-1]
        last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
        network(x)
    return seen[0]


@every_network
def test_the_stages_give_the_features_of_the_original(library: type[LibraryBackbone], name: str, stages: int) -> None:
    backbone = built(library, name)
    assert len(backbone.stages) == stages
    size = size_of(backbone)
    x = torch.randn(2, 3, size, size)
    wanted = before_the_classifier(original(backbone), x)
    with torch.no_grad():
        found = backbone(x)
    assert found.ndim == 4
    assert found.shape[1] == backbone.channels
    if wanted.ndim == 4 and wanted.shape[1] != backbone.channels:
        wanted = wanted.permute(0, 3, 1, 2)
    if found.shape != wanted.shape:
        side = 6 if name == "alexnet" else 1
        found = nn.functional.adaptive_avg_pool2d(found, side).reshape(wanted.shape)
    assert wanted.std() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@every_network
def test_every_depth_trains_exactly_its_stages(library: type[LibraryBackbone], name: str, stages: int) -> None:
    backbone = built(library, name)
    backbone.requires_grad_(requires_grad=True)
    names = [stage for stage, _ in backbone.stages.named_children()]
    assert all(next(stage.parameters(), None) is not None for stage in backbone.stages)
    for depth in range(stages, -1, -1):  # a network freezes stages and thaws none
        network = Network(backbone, build_head("linear", backbone.channels, 0.1), depth)
        trains = tuple(f"stages.{each}." for each in names[stages - depth :])
        expected = {each for each, _ in network.named_parameters() if each.startswith((*trains, "head."))}
        assert {each for each, _ in network.trainable()} == expected
        network.train()
        assert [stage.training for stage in network.stages] == [False] * (stages - depth) + [True] * depth
        assert not any(module.training for stage in network.prefix for module in stage.modules())
    backbone.requires_grad_(requires_grad=True).eval()


@dataclass(frozen=True)
class Pixels:
    """The source of a build: these images, one view of each."""

    pixels: Tensor

    def read(self, start: int, stop: int, _view: int) -> Tensor:
        return self.pixels[start:stop]


@every_network
def test_stored_activations_give_the_logits_of_images(
    library: type[LibraryBackbone], name: str, stages: int, tmp_path: Path
) -> None:
    backbone = built(library, name)
    size = size_of(backbone)
    pixels = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    head = build_head("linear", backbone.channels, 0.1)
    nn.init.normal_(head.linear.weight)
    for cut in {1, stages // 2, stages}:
        network = Network(backbone, head, stages - cut).eval()
        network.use_channels_last()
        pooled = cut == stages
        with torch.no_grad():
            _, *shape = network.stages[:cut](network.normalise(pixels[:1])).shape
            wanted = network(pixels)
        build = Build(
            tmp_path / str(cut), len(pixels), 1, (shape[0],) if pooled else (*shape[1:], shape[0]), "float32",
            source=partial(Pixels, pixels), prefix=partial(FrozenPrefix, network, 0, cut, pool=pooled),
            check=lambda: None,
        )  # fmt: skip
        stored = open_or_build(build).read(np.arange(2), 0)
        with torch.no_grad():
            found = network(stored, is_features=True)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    backbone.requires_grad_(requires_grad=True)


def test_the_lists_are_long_enough() -> None:
    assert len(TORCHVISION) >= 12
    assert len(TIMM) >= 8
