"""What every backbone must hold; a new one gets all of it with one line in test_backbones.py."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.classifier import Classifier
from eyegender.models.heads import HEADS, build_head
from eyegender.models.network import Network


@cache
def built(cls: type[Backbone]) -> Backbone:
    """Drawing an Inception's random weights takes a second: the tests that only look share one."""
    return cls()


class BackboneContract:
    cls: ClassVar[type[Backbone]]
    stages: ClassVar[int]

    @pytest.fixture
    def backbone(self) -> Backbone:
        return built(self.cls)

    def test_number_of_stages(self, backbone: Backbone) -> None:
        assert len(backbone.stages) == self.stages

    def test_the_stages_are_torchvisions_network(self) -> None:
        network = self.cls.torchvision_network().eval()
        stages = torch.nn.Sequential(*[stage for _, stage in self.cls.named_stages(network)])
        x = torch.randn(2, 3, 96, 96)
        seen: list[torch.Tensor] = []
        last = list(network.children())[-1]
        last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            network(x)
            pooled = stages(x).mean((2, 3))
        torch.testing.assert_close(seen[0].flatten(1), pooled, rtol=1e-4, atol=1e-5)

    def test_last_map_has_the_declared_channels(self, backbone: Backbone) -> None:
        size = self.cls.min_size
        with torch.no_grad():
            assert backbone.eval()(torch.zeros(1, 3, size, size)).shape[1] == self.cls.channels

    def test_below_the_floor_is_refused_naming_it(self) -> None:
        with pytest.raises(UserError, match=f"at least {self.cls.min_size}x{self.cls.min_size}"):
            self.cls.check_size(self.cls.min_size - 1)

    @pytest.mark.parametrize("head", sorted(HEADS))
    @pytest.mark.parametrize("size", ["min", "default"])
    def test_heads_fit_maps_of_smallest_and_own_size(self, backbone: Backbone, head: str, size: str) -> None:
        side = self.cls.min_size if size == "min" else self.cls.default_size
        network = Network(backbone, build_head(head, self.cls.channels, 0.1), 0).eval()
        with torch.no_grad():
            assert network(torch.zeros(2, 1, side, side, dtype=torch.uint8)).shape == (2,)

    @pytest.mark.parametrize("depth", ["0", "1", "middle", "all"])
    def test_frozen_parameters_and_buffers_stay_bit_identical(self, depth: str) -> None:
        train = {"0": 0, "1": 1, "middle": self.stages // 2, "all": self.stages}[depth]
        backbone = self.cls()
        network = Network(backbone, build_head("linear", self.cls.channels, 0.1), train)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        optimizer = torch.optim.AdamW(Classifier(network).parameter_groups(), lr=0.1)
        size = max(self.cls.min_size, 64)
        network.train()
        for _ in range(2):
            pixels = torch.randint(0, 256, (4, 1, size, size), dtype=torch.uint8)
            optimizer.zero_grad()
            network(pixels).square().sum().backward()
            optimizer.step()
        names = [name for name, _ in backbone.stages.named_children()]
        frozen = tuple(f"stages.{name}." for name in names[: self.stages - train])
        changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
        assert not [name for name in changed if frozen and name.startswith(frozen)]
        # ... and what is not frozen did train, batch-norm statistics included.
        trained = [n for n in before if not (frozen and n.startswith(frozen))]
        still = [n for n in trained if n not in changed]
        assert not still, still

    def test_exactly_the_last_stages_and_the_head_are_trainable(self, backbone: Backbone) -> None:
        network = Network(self.cls(), build_head("linear", self.cls.channels, 0.1), 2)
        last = [name for name, _ in backbone.stages.named_children()][-2:]
        expected = {
            name
            for name, _ in network.named_parameters()
            if name.startswith(("head.", *(f"stages.{s}." for s in last)))
        }
        assert {name for name, _ in network.trainable()} == expected
