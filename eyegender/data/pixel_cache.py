"""Every picture decoded once: one uint8 array on disk, shared by all runs and processes that want the same pixels."""

from __future__ import annotations

import json
import math
import os
import weakref
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
PIXELS, CHECKSUMS, MANIFEST = "pixels.u8", "rows.crc32", "manifest.json"

_PROBED_ROWS = 32


class DamagedStoreError(Exception):
    """A store that is not what its manifest says; whoever opens it builds it anew."""


class PixelStore:
    """uint8 pixels of shape (N, C, H, W), one row per different picture, in the order of the sorted digests.

    Rows are read with `pread`, not through the mapping: pages of a mapping count as resident memory, so that random
    reads over a large array would seem to fill the machine. Each row is checked against its checksum as it is read.
    Safe to share between threads; a pickled or forked copy reads the same file. A store stays readable while it is
    open, even if its entry is cleaned away.

    Rows of different `checksums` (crc32, uint32 of shape (N,)) are different pictures.

    Args:
        folder: a finished store.
        digests: the sorted, different digests that it was built for.

    Raises:
        DamagedStoreError: files are missing, of the wrong size, or a probed row differs from its checksum.
    """

    def __init__(self, folder: Path, digests: Sequence[str]) -> None:
        self.folder = folder
        self.digests = digests
        self.shape, self.bad = _read_manifest(folder, len(digests))
        self._row_bytes = math.prod(self.shape[1:])
        self._open()
        probes = np.unique(np.linspace(0, len(self) - 1, min(len(self), _PROBED_ROWS)).astype(np.int64))
        self._read_checked(probes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"_file", "checksums"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def array(self) -> NDArray[np.uint8]:
        """The whole store as a read-only memory map, for passes from front to back; unread pictures are zeros."""
        return np.memmap(self.folder / PIXELS, dtype=np.uint8, mode="r", shape=self.shape)

    def rows(self, digests: Sequence[str]) -> NDArray[np.int64]:
        """The row of each digest, also of those in `bad`, whose rows are zeros."""
        row_of = {digest: row for row, digest in enumerate(self.digests)}
        return np.fromiter((row_of[digest] for digest in digests), dtype=np.int64, count=len(digests))

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of these rows, shape (len(rows), C, H, W).

        Raises:
            UserError: the store was damaged after it was opened; the next run builds it anew.
        """
        try:
            return self._read_checked(rows)
        except DamagedStoreError as error:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            raise UserError(f"decoded pictures must stay as written, got {error}; run again to decode anew") from error

    def _open(self) -> None:
        try:
            self._file = os.open(self.folder / PIXELS, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, self._file)
            size = os.fstat(self._file).st_size
            self.checksums = np.fromfile(self.folder / CHECKSUMS, dtype="<u4")
        except OSError as error:
            raise DamagedStoreError(str(error)) from error
        if size != len(self) * self._row_bytes or len(self.checksums) != len(self):
            raise DamagedStoreError(f"{self.folder} of the wrong size")

    def _read_checked(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        flat = found.reshape(len(rows), self._row_bytes)
        for i in np.argsort(rows, kind="stable").tolist():  # in disk order
            row = int(rows[i])
            if not 0 <= row < len(self):
                raise IndexError(f"row must be in 0..{len(self) - 1}, got {row}")
            got = os.preadv(self._file, [flat[i]], row * self._row_bytes)
            if got != self._row_bytes or zlib.crc32(flat[i]) != self.checksums[row]:
                raise DamagedStoreError(f"row {row} of {self.folder} changed on disk")
        return found


def mark_used(folder: Path) -> None:
    """Note that the entry was used now, for whoever cleans the oldest away."""
    with suppress(OSError):  # somebody else's, or just cleaned away: its age is a hint only
        os.utime(folder / MANIFEST)


def _read_manifest(folder: Path, count: int) -> tuple[tuple[int, int, int, int], Mapping[str, str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        shape = tuple(int(n) for n in manifest["shape"])
        bad = dict(manifest["bad"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedStoreError(f"{folder} without a whole manifest") from error
    if manifest.get("format") != FORMAT or len(shape) != 4 or shape[0] != count or min(shape[1:]) < 1:
        raise DamagedStoreError(f"{folder} with a foreign manifest")
    return (shape[0], shape[1], shape[2], shape[3]), bad
