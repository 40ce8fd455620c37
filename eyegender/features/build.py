"""Builds an entry of the activation store from images, or from an entry of fewer stages."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from eyegender.core.atomic_write import atomic_folder, preallocated_file, write_at, write_synced
from eyegender.core.cache import build_lock, remove_unfinished, translate_cache_errors
from eyegender.core.progress import show_progress
from eyegender.data.loader import to_device
from eyegender.features.store import (
    ACTIVATIONS,
    CHECKSUMS,
    DTYPES,
    FORMAT,
    MANIFEST,
    ActivationStore,
    DamagedActivationsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from eyegender.data.pixel_cache import PixelStore
    from eyegender.features.prefix import Views

CHUNK = 64  # images at a time; random views depend on it, so a change needs a new FORMAT


class TooLargeForTypeError(Exception):
    """An activation exceeds the range of the type in which it would be stored."""


class Source(Protocol):
    """The input of the frozen stages."""

    def read(self, start: int, stop: int, view: int) -> Tensor:
        """View `view` of the images `start` to `stop`, as input of `FrozenPrefix`."""


@dataclass(frozen=True)
class ImageSource:
    """Reads images and makes their views, on the device that computes the stages."""

    store: PixelStore
    rows: NDArray[np.int64]
    views: Views
    device: torch.device

    def read(self, start: int, stop: int, view: int) -> Tensor:
        pixels = to_device(torch.from_numpy(self.store.read(self.rows[start:stop])), self.device)
        return self.views.make(pixels, view, start)


@dataclass(frozen=True)
class StoreSource:
    """Reads an entry of fewer stages with the same images and views."""

    store: ActivationStore

    def read(self, start: int, stop: int, view: int) -> Tensor:
        return self.store.read(np.arange(start, stop, dtype=np.int64), view)


@dataclass(frozen=True)
class Build:
    """Everything that is needed to build one entry.

    Args:
        folder: folder of the entry.
        images: number of images.
        views: number of views per image.
        row_shape: shape of one row: (C,) or, channels last, (h, w, C).
        dtype: name of the stored type.
        source: makes the input of the stages.
        prefix: makes the function that computes the stages.
        check: called between chunks; an exception from it ends the build.
    """

    folder: Path
    images: int
    views: int
    row_shape: tuple[int, ...]
    dtype: str
    source: Callable[[], Source]
    prefix: Callable[[], Callable[[Tensor], Tensor]]
    check: Callable[[], None]

    @property
    def nbytes(self) -> int:
        """Size of the activations and their checksums on disk."""
        rows = self.images * self.views
        return rows * (int(np.prod(self.row_shape)) * np.dtype(DTYPES[self.dtype][1]).itemsize + 4)


def open_or_build(build: Build) -> ActivationStore:
    """The finished entry; one process builds it while others wait.

    Raises:
        UserError: the disk is full, or the cache folder is not writable.
        TooLargeForTypeError: an activation exceeds the range of the stored type.
    """
    with translate_cache_errors("stored activations", build.folder.parent, build.nbytes):
        build.folder.parent.mkdir(exist_ok=True)
        with build_lock(build.folder, "computing these activations", build.check):
            try:
                return ActivationStore(build.folder, build.images, build.views)  # another process has built it
            except DamagedActivationsError:
                remove_unfinished(build.folder)
            _write(build)
            return ActivationStore(build.folder, build.images, build.views)


def _write(build: Build) -> None:
    source, prefix = build.source(), build.prefix()
    with atomic_folder(build.folder) as folder:
        checksums = np.empty(build.images * build.views, dtype="<u4")
        elements = int(np.prod(build.row_shape))
        kind = np.dtype(DTYPES[build.dtype][1])
        row_bytes = elements * kind.itemsize
        with (
            preallocated_file(folder / ACTIVATIONS, len(checksums) * row_bytes) as file,
            show_progress("computing frozen stages", len(checksums)) as progress,
        ):
            for start in range(0, build.images, CHUNK):
                build.check()
                stop = min(start + CHUNK, build.images)
                chunk = np.empty((stop - start, build.views, elements), dtype=kind)
                for view in range(build.views):
                    chunk[:, view] = as_bits(prefix(source.read(start, stop, view)), build.dtype)
                    progress(stop - start)
                first = start * build.views
                for i, row in enumerate(chunk.reshape(-1, elements)):
                    checksums[first + i] = zlib.crc32(row.data)
                write_at(file, chunk.data, first * row_bytes)
        write_synced(folder / CHECKSUMS, checksums.tobytes())
        manifest = {
            "format": FORMAT,
            "pictures": build.images,
            "views": build.views,
            "row_shape": build.row_shape,
            "dtype": build.dtype,
        }
        write_synced(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def as_bits(features: Tensor, dtype: str) -> NDArray[np.uint16 | np.uint32]:
    """Features (B, C) or (B, C, h, w) in their stored form: integers (B, C) or (B, h * w * C)."""
    last = features if features.ndim == 2 else features.permute(0, 2, 3, 1)
    target, kind = DTYPES[dtype]
    stored = last.to(target)
    if not torch.isfinite(stored).all():
        raise TooLargeForTypeError(f"activations up to {float(features.abs().max()):.3g} do not fit {dtype}")
    flat = stored.contiguous().cpu().view(len(features), -1)
    bits: NDArray[np.uint16 | np.uint32] = flat.view(torch.int16 if kind == "<u2" else torch.int32).numpy().view(kind)
    return bits
