"""How a chain of modules becomes stages, shown by small networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eyegender.models.libraries.calls import observe
from eyegender.models.libraries.stages import NoChainError, build_stages, group_layers, open_layers

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Shortcut(nn.Module):
    """A block: its input is added to what its layers return, in place or not."""

    def __init__(self, channels: int, *, in_place: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y.add_(x) if self.in_place else y + x
        return self.act(y)


class Stage(nn.Module):
    """A convolution and blocks one after the other, without an `nn.Sequential`."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 2, stride=2)
        self.blocks = nn.ModuleList(Shortcut(4, in_place=i % 2 == 0) for i in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        for block in self.blocks:
            x = block(x)
        return x


class Net(nn.Module):
    """Calls its modules one after the other, with `between` applied after the first one."""

    def __init__(self, *modules: nn.Module, between: object = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        for position, part in enumerate(self.parts):
            x = part(x)
            if position == 0 and callable(self.between):
                x = self.between(x)
        return x


class ToLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Tokens(nn.Module):
    """(B, C, H, W) to (B, H * W, C) or back."""

    def __init__(self, side: int = 0) -> None:
        super().__init__()
        self.conv, self.side = nn.Linear(4, 4), side

    def forward(self, x: Tensor) -> Tensor:
        if self.side:
            return self.conv(x).transpose(1, 2).unflatten(2, (self.side, self.side))
        return self.conv(x.flatten(2).transpose(1, 2))


def stages_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    root = observe(network.eval(), network, IMAGE)
    assert root.is_chain
    return build_stages(group_layers(open_layers(root.inner)))


def outputs(stages: list[tuple[str, nn.Module]]) -> list[Tensor]:
    """What each stage gives in a forward pass of all of them."""
    found, x = [], IMAGE.clone()
    with torch.no_grad():
        for _, stage in stages:
            x = stage(x)
            found.append(x.clone())
    return found


def names(network: nn.Module) -> list[str]:
    return [name for name, _ in stages_of(network)]


def test_norms_activations_and_pools_join_the_layer_before() -> None:
    first = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2)]
    network = nn.Sequential(nn.BatchNorm2d(3), *first, nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True))
    stages = stages_of(network)
    assert [name for name, _ in stages] == ["1", "5"]
    assert [len(list(stage)) for _, stage in stages] == [5, 3]
    torch.testing.assert_close(outputs(stages)[-1], network(IMAGE.clone()))


def test_sequentials_are_opened_however_deep_they_are() -> None:
    inner = nn.Sequential(Shortcut(4), nn.Sequential(Shortcut(4), nn.Conv2d(4, 5, 1)))
    assert names(Net(nn.Conv2d(3, 4, 1), inner)) == ["parts_0", "parts_1_0", "parts_1_1_0", "parts_1_1_1"]


def test_a_chain_of_several_blocks_is_opened_and_one_with_a_single_block_is_not() -> None:
    assert names(Net(Stage(2))) == ["parts_0_down", "parts_0_blocks_0", "parts_0_blocks_1"]
    assert names(Net(Stage(1))) == ["parts_0"]
    norm_with_parts = Net(nn.Conv2d(3, 3, 1), Shortcut(3))  # its norm has no weights, so it is no block
    assert names(nn.Sequential(norm_with_parts)) == ["0"]


def test_a_block_that_adds_its_input_in_place_is_no_chain() -> None:
    for in_place in (True, False):
        root = observe(nn.Sequential(Shortcut(3, in_place=in_place)), Shortcut(3, in_place=in_place).eval(), IMAGE)
        assert not root.is_chain
    network = nn.Sequential(Shortcut(3))
    (block,) = observe(network, network, IMAGE).inner
    assert [call.name for call in block.chained()] == ["0.conv"]


@pytest.mark.parametrize("between", [torch.relu, torch.relu_, lambda x: x.mul_(2), lambda x: x + 1])
def test_an_operation_between_two_modules_breaks_the_chain(between: object) -> None:
    network = Net(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), between=between)
    root = observe(network, network, IMAGE)
    assert not root.is_chain
    assert [call.name for call in root.chained()] == ["parts.0"]


def test_a_map_with_its_channels_last_is_turned_between_stages() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(self.norm(x))

    network = Net(nn.Conv2d(3, 4, 4, stride=4), ToLast(), Last(), Last())
    stages = stages_of(network)
    assert len(stages) == 3
    assert [tuple(output.shape) for output in outputs(stages)] == [(1, 4, 4, 4)] * 3
    assert names(Net(nn.Conv2d(3, 6, 4, stride=4), ToLast(), nn.Linear(6, 5))) == ["parts_0", "parts_2"]
    network = Net(nn.Conv2d(3, 6, 4, stride=4), ToLast(), nn.Linear(6, 5))
    found = outputs(stages_of(network))
    assert [tuple(output.shape) for output in found] == [(1, 6, 4, 4), (1, 5, 4, 4)]
    torch.testing.assert_close(found[-1].permute(0, 2, 3, 1), network(IMAGE))


def test_no_stage_ends_where_there_is_no_map() -> None:
    network = Net(nn.Conv2d(3, 4, 2, stride=2), Tokens(), Tokens(side=8), nn.Conv2d(4, 4, 1))
    assert names(network) == ["parts_0", "parts_1", "parts_3"]
    with pytest.raises(NoChainError, match="no map of height and width"):
        stages_of(Net(nn.Conv2d(3, 4, 2, stride=2), Tokens()))


def test_a_module_that_is_called_twice_cannot_be_in_two_stages() -> None:
    same = nn.Conv2d(3, 3, 1)
    with pytest.raises(NoChainError, match="share parameters"):
        stages_of(Net(same, nn.Conv2d(3, 3, 1), same))


def test_the_network_keeps_no_hooks() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    observe(network, network, IMAGE)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
