"""Outputs of frozen stages in one memory-mapped array on disk, shared by all runs that need the same ones."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyegender.core.cache import mark_used
from eyegender.core.errors import UserError
from eyegender.data.pixel_cache import FORMAT as PIXEL_FORMAT
from eyegender.models.weights import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from eyegender.features.prefix import Views
    from eyegender.models.network import Network

FORMAT = 1
ACTIVATIONS, CHECKSUMS, MANIFEST = "activations.bin", "rows.crc32", "manifest.json"
# NumPy has no bfloat16, so all types are stored as integers with the same bits.
DTYPES = {"bfloat16": (torch.bfloat16, "<u2"), "float16": (torch.float16, "<u2"), "float32": (torch.float32, "<u4")}

_PROBED_ROWS = 32
_MAX_OPEN = 16  # an open store costs address space and a few bytes per row


class DamagedActivationsError(Exception):
    """An entry does not match its manifest and must be built again."""


class ActivationStore:
    """One entry: rows in order of image, then of view. Maps are stored channels last, as convolutions prefer them.

    Each row is compared with its checksum when it is read for the first time. A store may be shared between threads; a
    pickled copy maps the same file. A store stays readable while it is open, even if its entry is removed.

    Args:
        folder: folder of a finished entry.
        images: number of images that the entry must hold.
        views: number of views per image that the entry must hold.

    Raises:
        DamagedActivationsError: a file is missing or has the wrong size, or a probed row differs from its checksum.
    """

    def __init__(self, folder: Path, images: int, views: int) -> None:
        self.folder = folder
        self.images, self.views = images, views
        self.row_shape, self.dtype_name = _read_manifest(folder, images, views)
        self._open()
        probes = np.unique(np.linspace(0, len(self._rows) - 1, _PROBED_ROWS).astype(np.int64))
        self._check(probes, self._rows[probes])

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, views, C) or (images, views, C, h, w)."""
        *sides, channels = self.row_shape
        return (self.images, self.views, channels, *sides)

    @property
    def nbytes(self) -> int:
        return int(self._rows.nbytes)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"_rows", "_checksums", "_checked"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, images: NDArray[np.int64], view: NDArray[np.int64] | int) -> Tensor:
        """A copy of one view of each image, (B, C) or, channels last in memory, (B, C, h, w), in the stored type.

        Raises:
            IndexError: the entry has no such image or view.
            UserError: the entry was damaged after it was opened; the next run builds it again.
        """
        rows = images * self.views + view
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self._rows)):
            raise IndexError(f"rows must be in 0..{len(self._rows) - 1}, got {rows.min()}..{rows.max()}")
        bits = self._rows[rows]
        try:
            self._check(rows, bits)
        except DamagedActivationsError as error:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            raise UserError(
                f"stored activations must stay as written, got {error}; run again to rebuild them"
            ) from error
        found = torch.from_numpy(bits).view(DTYPES[self.dtype_name][0]).view(len(rows), *self.row_shape)
        return found if found.ndim == 2 else found.permute(0, 3, 1, 2)

    def _open(self) -> None:
        count, elements = self.images * self.views, math.prod(self.row_shape)
        kind = np.dtype(DTYPES[self.dtype_name][1])
        try:
            size = (self.folder / ACTIVATIONS).stat().st_size
            self._checksums = np.fromfile(self.folder / CHECKSUMS, dtype="<u4")
            if size != count * elements * kind.itemsize or len(self._checksums) != count:
                raise DamagedActivationsError(f"{self.folder} with files of the wrong size")
            self._rows = np.memmap(self.folder / ACTIVATIONS, dtype=kind, mode="r", shape=(count, elements))
        except OSError as error:
            raise DamagedActivationsError(str(error)) from error
        self._checked = np.zeros(count, dtype=bool)

    def _check(self, rows: NDArray[np.int64], bits: NDArray[Any]) -> None:
        new = np.flatnonzero(~self._checked[rows])
        for i in new.tolist():
            if zlib.crc32(bits[i]) != self._checksums[rows[i]]:
                raise DamagedActivationsError(f"row {rows[i]} of {self.folder} changed on disk")
        self._checked[rows[new]] = True


def _read_manifest(folder: Path, images: int, views: int) -> tuple[tuple[int, ...], str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        row_shape = tuple(int(n) for n in manifest["row_shape"])
        dtype = str(manifest["dtype"])
        found = manifest["format"], manifest["pictures"], manifest["views"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedActivationsError(f"{folder} without a complete manifest") from error
    foreign = found != (FORMAT, images, views) or dtype not in DTYPES or len(row_shape) not in {1, 3}
    if foreign or min(row_shape) < 1:
        raise DamagedActivationsError(f"{folder} with the manifest of another entry")
    return row_shape, dtype


class StorePool:
    """Keeps the most recently used stores open, so that the next trial in this process need not check them again."""

    def __init__(self) -> None:
        self._stores: OrderedDict[Path, ActivationStore] = OrderedDict()

    def open(self, folder: Path, images: int, views: int) -> ActivationStore | None:
        """The store of a finished entry, or None if there is none or it is damaged."""
        store = self._stores.pop(folder, None)
        if store is None or not (folder / MANIFEST).exists():
            try:
                store = ActivationStore(folder, images, views)
            except DamagedActivationsError:
                return None
        return self.add(store)

    def add(self, store: ActivationStore) -> ActivationStore:
        """Keep `store` open and mark its entry as used."""
        mark_used(store.folder)
        self._stores[store.folder] = store
        while len(self._stores) > _MAX_OPEN:
            self._stores.popitem(last=False)
        return store

    def clear(self) -> None:
        """Forget all stores."""
        self._stores.clear()


STORE_POOL = StorePool()


@dataclass(frozen=True)
class EntryKey:
    """The part of an entry's name that all entries of one run share.

    Args:
        backbone: name of the backbone.
        stages: for each position 0..number of stages, a hash of all weights and buffers before it.
        normalisation: mean and standard deviation of the pixels.
        size: side of the images in pixels.
        color: `gray` or `rgb`.
        dtype: type of the stored numbers.
        computed: type and device of the computation.
    """

    backbone: str
    stages: tuple[str, ...]
    normalisation: str
    size: int
    color: str
    dtype: str
    computed: str

    def name(self, cut: int, *, pooled: bool, digests: Sequence[str], views: Views) -> str:
        """Folder name of an entry, 32 hex digits: a hash of everything that its numbers depend on.

        Args:
            cut: number of stages that were applied.
            pooled: the map was averaged over its pixels.
            digests: digests of the images, in order.
            views: the views of each image.
        """
        position = (FORMAT, PIXEL_FORMAT, self.backbone, cut, "pooled" if pooled else "map", self.stages[cut])
        how = (self.normalisation, self.size, self.color, self.dtype, self.computed, views.description)
        key = hashlib.sha256(repr((position, how)).encode())
        for image in digests:
            key.update(b"\n" + image.encode())
        return key.hexdigest()[:32]


def stage_digests(network: Network) -> tuple[str, ...]:
    """For each position 0..number of stages, a hash of the stages before it: their order, structure and weights."""
    digests = [hashlib.sha256(b"eyegender stages").hexdigest()]
    for stage in network.stages:
        # The number of batches seen does not influence the output of a stage.
        state = {k: v for k, v in stage.state_dict().items() if not k.endswith("num_batches_tracked")}
        digests.append(hashlib.sha256(f"{digests[-1]} {stage} {digest(state)}".encode()).hexdigest())
    return tuple(digests)
