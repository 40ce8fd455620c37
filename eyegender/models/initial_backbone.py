"""A backbone with its initial weights; a process that trains many runs builds each one once."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from eyegender.models.weights import Weights, load_weights

if TYPE_CHECKING:
    from eyegender.models.backbone import Backbone

_MOST = 2  # backbones that are kept, each with all its weights


class _Built(NamedTuple):
    """What was built, before anything trained it, and the state of the random numbers after it."""

    backbone: Backbone
    weights: Weights
    random_state: torch.Tensor


_built: OrderedDict[tuple[object, ...], _Built] = OrderedDict()


def build_backbone(cls: type[Backbone], choice: str | None) -> tuple[Backbone, Weights]:
    """A new backbone, and the origin of its weights; takes the arguments of `load_weights`.

    torchvision draws random weights even if others replace them. What is drawn afterwards, such as the weights of the
    head, depends on it, so a backbone is copied only if it was built from the same state of the random numbers, and the
    state is then set to the one after it.

    Raises:
        UserError: as `load_weights`.
    """
    key = _key(cls, choice)
    found = None if key is None else _built.pop(key, None)
    if found is None:
        backbone = cls()
        weights = load_weights(backbone, choice)
        if key is None:
            return backbone, weights
        found = _Built(backbone, weights, torch.get_rng_state())
    assert key is not None
    _built[key] = found
    while len(_built) > _MOST:
        _built.popitem(last=False)
    torch.set_rng_state(found.random_state)
    return copy.deepcopy(found.backbone), found.weights


def _key(cls: type[Backbone], choice: str | None) -> tuple[object, ...] | None:
    """What the weights depend on; None for choices that depend on the network and on torchvision's cache."""
    file: tuple[object, ...] = ()
    if choice in {"auto", "imagenet"}:
        return None
    if choice is not None:
        path = Path(choice).expanduser().absolute()
        try:
            about = path.stat()
        except OSError:
            return None  # `load_weights` reports it
        file = (path, about.st_mtime_ns, about.st_size, about.st_ino)
    return cls, torch.get_default_dtype(), file, torch.get_rng_state().numpy().tobytes()
