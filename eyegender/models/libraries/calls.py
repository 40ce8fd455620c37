"""Which modules a forward pass calls, in which order, and whether each one gets what the one before it returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Value(NamedTuple):
    """A tensor at a moment; `version` counts the changes in place so far."""

    tensor: Tensor
    version: int

    @classmethod
    def of(cls, tensor: Any) -> Value | None:
        return cls(tensor, tensor._version) if isinstance(tensor, Tensor) else None

    def is_same(self, other: Value | None) -> bool:
        """Whether both are one tensor, which was not changed in place in between."""
        return other is not None and self.tensor is other.tensor and self.version == other.version


@dataclass(eq=False)
class Call:
    """A call of a module.

    Args:
        name: the module's name in its network.
        module: the module.
        given: its argument; None if it was called with anything but one tensor.
        returned: what it returned; None if that is no tensor.
        inner: the calls that it made itself, in order.
    """

    name: str
    module: nn.Module
    given: Value | None
    returned: Value | None = None
    inner: list[Call] = field(default_factory=list)

    def chained(self) -> list[Call]:
        """The first inner calls of which each gets what the one before it returned; the first one gets `given`."""
        found: list[Call] = []
        value = self.given
        for call in self.inner:
            if call.given is None or call.returned is None or not call.given.is_same(value):
                break
            found.append(call)
            value = call.returned
        return found

    @property
    def is_chain(self) -> bool:
        """Whether the module does nothing but call others one after the other."""
        chained = self.chained()
        if not chained or len(chained) < len(self.inner):
            return False
        end = chained[-1].returned
        return end is not None and end.is_same(self.returned)


def observe(network: nn.Module, run: Callable[[Tensor], Any], image: Tensor) -> Call:
    """The call `run(image)` with everything that it calls. The network must be in eval mode.

    Args:
        network: the network; it is not changed.
        run: its forward pass, or the part of it that ends with the features.
        image: a batch of one image.
    """
    root = Call("", network, Value.of(image))
    stack = [root]

    def enter(name: str, module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        given = Value.of(arguments[0]) if len(arguments) == 1 and not options else None
        call = Call(name, module, given)
        stack[-1].inner.append(call)
        stack.append(call)

    def leave(_module: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
        stack.pop().returned = Value.of(output)

    handles = []
    try:
        for name, module in network.named_modules():
            if module is not network:
                before = _with_name(enter, name)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
        with torch.no_grad():
            root.returned = Value.of(run(image))
    finally:
        for handle in handles:
            handle.remove()
    return root


def _with_name(enter: Callable[..., None], name: str) -> Callable[..., None]:
    def before(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        enter(name, module, arguments, options)

    return before
