"""What frozen stages make of each picture: one memory-mapped array on disk, shared by all runs that want the same."""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

FORMAT = 1
ACTIVATIONS, CHECKSUMS, MANIFEST = "activations.bin", "rows.crc32", "manifest.json"
# numpy knows no bfloat16: its bits travel as integers.
DTYPES = {"bfloat16": (torch.bfloat16, "<u2"), "float16": (torch.float16, "<u2"), "float32": (torch.float32, "<u4")}

_PROBED_ROWS = 32


class DamagedActivationsError(Exception):
    """An entry that is not what its manifest says; whoever opens it builds it anew."""


class ActivationStore:
    """Rows in the order picture by picture, view by view; maps lie channels last, as convolutions like them best.

    Each row is checked against its checksum the first time that it is read. Safe to share between threads; a pickled
    copy maps the same file. A store stays readable while it is open, even if its entry is cleaned away.

    Args:
        folder: a finished entry.
        pictures: it was built for so many.
        views: of each picture.

    Raises:
        DamagedActivationsError: files are missing, of the wrong size, or a probed row differs from its checksum.
    """

    def __init__(self, folder: Path, pictures: int, views: int) -> None:
        self.folder = folder
        self.pictures, self.views = pictures, views
        self.row_shape, self.dtype_name = _read_manifest(folder, pictures, views)
        self._open()
        probes = np.unique(np.linspace(0, len(self._rows) - 1, _PROBED_ROWS).astype(np.int64))
        self._check(probes, self._rows[probes])

    @property
    def shape(self) -> tuple[int, ...]:
        """(pictures, views, C) or (pictures, views, C, h, w)."""
        *sides, channels = self.row_shape
        return (self.pictures, self.views, channels, *sides)

    @property
    def nbytes(self) -> int:
        return int(self._rows.nbytes)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"_rows", "_checksums", "_checked"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, pictures: NDArray[np.int64], view: NDArray[np.int64] | int) -> Tensor:
        """A copy of one view of each picture, (B, C) or, channels last in memory, (B, C, h, w), in the stored type.

        Raises:
            UserError: the entry was damaged after it was opened; the next run builds it anew.
        """
        rows = pictures * self.views + view
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
        count, elements = self.pictures * self.views, math.prod(self.row_shape)
        kind = np.dtype(DTYPES[self.dtype_name][1])
        try:
            size = (self.folder / ACTIVATIONS).stat().st_size
            self._checksums = np.fromfile(self.folder / CHECKSUMS, dtype="<u4")
            if size != count * elements * kind.itemsize or len(self._checksums) != count:
                raise DamagedActivationsError(f"{self.folder} of the wrong size")
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


def _read_manifest(folder: Path, pictures: int, views: int) -> tuple[tuple[int, ...], str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        row_shape = tuple(int(n) for n in manifest["row_shape"])
        dtype = str(manifest["dtype"])
        told = manifest["format"], manifest["pictures"], manifest["views"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedActivationsError(f"{folder} without a whole manifest") from error
    foreign = told != (FORMAT, pictures, views) or dtype not in DTYPES or len(row_shape) not in {1, 3}
    if foreign or min(row_shape) < 1:
        raise DamagedActivationsError(f"{folder} with a foreign manifest")
    return row_shape, dtype
