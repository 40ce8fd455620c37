"""Divides a chain of layers into stages, each of which maps a feature map (B, C, H, W) to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.models.libraries.calls import Call

_MOST_DIFFERENCE = 1e-4  # of the norm of the features; orders of summation differ


class NoChainError(Exception):
    """The network cannot be divided into stages; the message says why."""


class _Permute(nn.Module):
    """Changes the order of dimensions, so that what is between two stages is always (B, C, H, W)."""

    def __init__(self, order: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)

    def extra_repr(self) -> str:
        return str(self.order)


_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def open_layers(calls: Sequence[Call]) -> list[Call]:
    """The layers and blocks of a chain: every `nn.Sequential` in it is opened, and every chain of several blocks.

    A block is a module with weights whose own forward pass is no chain, for example because it has a shortcut. So the
    stages of a ConvNeXt are opened, and an inverted residual without a shortcut is not.
    """
    found: list[Call] = []
    for call in calls:
        if not call.is_chain:
            found.append(call)
            continue
        inner = open_layers(call.inner)
        blocks = [each for each in inner if has_weights(each.module) and each.inner and not each.is_chain]
        found += inner if isinstance(call.module, nn.Sequential) or len(blocks) > 1 else [call]
    return found


def group_layers(layers: Sequence[Call]) -> list[list[Call]]:
    """The layers of each stage.

    A stage starts at a layer with weights. A layer whose parameters are only vectors (norm, PReLU) or that has none
    (activation, pool) belongs to the stage before it, and so does what follows an output that is no map.
    """
    groups: list[list[Call]] = []
    for layer in layers:
        last = groups[-1] if groups else []
        if not groups or (
            has_weights(layer.module) and any(has_weights(call.module) for call in last) and _order(last[-1])
        ):
            groups.append([layer])
        else:
            last.append(layer)
    return groups


def build_stages(groups: Sequence[Sequence[Call]]) -> list[tuple[str, nn.Module]]:
    """The stages with their names, which are those of their first layers with weights.

    Raises:
        NoChainError: the last output is no map, or two stages share parameters.
    """
    stages: list[tuple[str, nn.Module]] = []
    is_last = False  # whether the channels are the last dimension of what the stage gets
    for group in groups:
        modules: list[nn.Module] = [_Permute(_TO_CHANNELS_LAST)] if is_last else []
        modules += [call.module for call in group]
        order = _order(group[-1])
        if order is None:
            raise NoChainError("its features are no map of height and width")
        is_last = order == "channels last"
        if is_last:
            modules.append(_Permute(_TO_CHANNELS_FIRST))
        first = next((call for call in group if has_weights(call.module)), group[0])
        stages.append((first.name.replace(".", "_"), modules[0] if len(modules) == 1 else nn.Sequential(*modules)))
    _check_sharing(stages)
    return stages


def has_weights(module: nn.Module) -> bool:
    """Whether a parameter is more than a vector."""
    return any(parameter.ndim > 1 for parameter in module.parameters())


def is_equal(found: Tensor, wanted: Tensor) -> bool:
    """Whether two results of the same computation are equal, up to the order of summation."""
    if found.shape != wanted.shape:
        return False
    difference = torch.linalg.vector_norm((found - wanted).double())
    return bool(difference <= _MOST_DIFFERENCE * torch.linalg.vector_norm(wanted.double()))


def _order(call: Call) -> str | None:
    """Which dimension of an output are the channels; None if it is no map. The map of a square image is square."""
    if call.returned is None or call.returned.tensor.ndim != 4:
        return None
    _, first, second, third = call.returned.tensor.shape
    if second == third:
        return "channels first"
    return "channels last" if first == second else None


def _check_sharing(stages: Sequence[tuple[str, nn.Module]]) -> None:
    owners: dict[int, int] = {}
    for position, (name, stage) in enumerate(stages):
        for parameter in stage.parameters():
            owner = owners.setdefault(id(parameter), position)
            if owner != position:
                raise NoChainError(f"stage {owner} ({stages[owner][0]}) and {position} ({name}) share parameters")
