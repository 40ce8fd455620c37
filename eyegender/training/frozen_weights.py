"""Frozen weights, stored once beside the checkpoints of a trial instead of in each of them.

They are nearly all of a checkpoint whose head alone trains, and they are the same in every epoch and, mostly, in every
trial of a sweep. Trials of one process share the file's blocks on the disk by hard links.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eyegender.core.atomic_write import atomic_write
from eyegender.models.weights import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

State = dict[str, Tensor]

FROZEN_FILE = "frozen.pt"
KEY = "frozen"  # in a checkpoint: the hash of the weights that are in the file beside it
_STATES = ("state_dict", "current_model_state")


@dataclass(frozen=True)
class _Stored:
    """The frozen weights that this process wrote or read last, and their file at that time."""

    weights: State
    sha256: str
    path: Path
    stamp: tuple[int, ...]


_last: _Stored | None = None


def split_off(checkpoint: dict[str, Any], names: Collection[str], sha256: str) -> dict[str, Any]:
    """A copy of the checkpoint without its frozen weights, whose hash it names instead."""
    left_out = set(names)
    rest = {
        key: {name: tensor for name, tensor in checkpoint[key].items() if name not in left_out}
        for key in _STATES
        if key in checkpoint
    }
    return {**checkpoint, **rest, KEY: sha256}


def join(checkpoint: dict[str, Any], folder: Path, read: Callable[[Path], Any]) -> None:
    """Put the frozen weights back into a checkpoint of `split_off`, in place.

    Args:
        checkpoint: the checkpoint; one without `KEY` stays as it is.
        folder: its folder.
        read: reads the file.

    Raises:
        ValueError: the file holds other weights.
    """
    sha256 = checkpoint.pop(KEY, None)
    if sha256 is None:
        return
    weights = _load(folder / FROZEN_FILE, read)
    if weights.sha256 != sha256:
        raise ValueError(f"{FROZEN_FILE} holds the weights of another run")
    for key in _STATES:
        if key in checkpoint:
            checkpoint[key] = {**weights.weights, **checkpoint[key]}


def store(weights: State, folder: Path) -> str:
    """Store frozen weights in the folder of the checkpoints, unless it has them already; their hash."""
    global _last  # noqa: PLW0603 - a process trains one run at a time
    weights, path = {name: tensor.detach().cpu() for name, tensor in weights.items()}, folder / FROZEN_FILE
    known = _last if _last is not None and _equal(_last.weights, weights) else None
    if known is not None and known.stamp == _stamp(path):
        return known.sha256
    if known is None or known.stamp != _stamp(known.path) or not _link(known.path, path):
        with atomic_write(path, "wb") as file:
            torch.save({"state_dict": weights}, file)
    kept = {name: tensor.clone() for name, tensor in weights.items()} if known is None else known.weights
    _last = _Stored(kept, digest(kept) if known is None else known.sha256, path, _stamp(path))
    return _last.sha256


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _load(path: Path, read: Callable[[Path], Any]) -> _Stored:
    global _last  # noqa: PLW0603
    if _last is None or _last.stamp != _stamp(path):
        weights = read(path)["state_dict"]
        if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise ValueError(f"{FROZEN_FILE} holds no weights")
        _last = _Stored(weights, digest(weights), path, _stamp(path))
    return _last


def _link(existing: Path, path: Path) -> bool:
    """Make `path` the same file as `existing`; False on file systems without hard links."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(existing)
        temporary.replace(path)
        # POSIX leaves both names if they are the same file already.
        temporary.unlink(missing_ok=True)
    except (OSError, NotImplementedError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _stamp(path: Path) -> tuple[int, ...]:
    """What identifies the contents of a file; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
