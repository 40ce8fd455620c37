"""The cache of decoded images: one uint8 array on disk for all runs and processes that need the same pixels."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.atomic_write import atomic_folder, preallocated_file, write_at, write_synced
from eyegender.core.cache import (
    MANIFEST,
    build_lock,
    cache_folder,
    limit_bytes,
    make_room,
    mark_used,
    remove_unfinished,
    translate_cache_errors,
)
from eyegender.core.errors import UserError
from eyegender.core.progress import check_stop, show_progress
from eyegender.data.decode import Color, to_pixels
from eyegender.data.readers import Samples, UnreadableImageError
from eyegender.data.text_columns import TextColumn, find_texts, joined_lines, sorting_order, text_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Shape = tuple[int, int, int, int]

FORMAT = 1
PIXELS, CHECKSUMS = "pixels.u8", "rows.crc32"

_PROBED_ROWS = 32
_TASK = 64  # images per task: enough to hide the overhead of a task, few enough for a smooth progress bar
_log = logging.getLogger(__name__)


class DamagedStoreError(Exception):
    """A store that does not match its manifest; it is built again."""


class PixelStore:
    """uint8 pixels of shape (N, C, H, W), one row per distinct image, in the order of the sorted digests.

    Rows are read with `pread` and not through a memory map: pages of a map count as resident memory, so random reads
    over a large array would seem to fill the memory. The checksum of each row is verified when it is read. A store is
    safe to share between threads; a pickled or forked copy reads the same file. An open store stays readable even if
    its entry is removed from the cache.

    Rows with different `checksums` (crc32, uint32 of shape (N,)) are different images.

    Args:
        folder: a complete cache entry.
        digests: the sorted, distinct digests that it was built for.

    Raises:
        DamagedStoreError: a file is missing or has the wrong size, or a probed row does not match its checksum.
    """

    def __init__(self, folder: Path, digests: Sequence[str]) -> None:
        self.folder = folder
        self.digests = digests
        self.shape, self.bad = _read_manifest(folder, len(digests))
        self._row_bytes = math.prod(self.shape[1:])
        self._open()
        probes = np.unique(np.linspace(0, len(self) - 1, min(len(self), _PROBED_ROWS)).astype(np.int64))
        self._read_verified(probes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"_file", "checksums"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def rows(self, digests: Sequence[str]) -> NDArray[np.int64]:
        """The row of each digest; the rows of digests in `bad` are zeros."""
        wanted = text_array(digests)
        found = find_texts(wanted, text_array(self.digests))
        if np.any(found < 0):
            raise KeyError(wanted[np.argmin(found)].decode())
        return found

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of these rows, shape (len(rows), C, H, W).

        Raises:
            UserError: the store was damaged after it was opened; the next run builds it again.
        """
        try:
            return self._read_verified(rows)
        except DamagedStoreError as error:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            raise UserError(
                f"decoded images must stay as written, got {error}; run again to decode them again"
            ) from error

    def _open(self) -> None:
        try:
            self._file = os.open(self.folder / PIXELS, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, self._file)
            size = os.fstat(self._file).st_size
            self.checksums = np.fromfile(self.folder / CHECKSUMS, dtype="<u4")
        except OSError as error:
            raise DamagedStoreError(str(error)) from error
        if size != len(self) * self._row_bytes or len(self.checksums) != len(self):
            raise DamagedStoreError(f"{self.folder} with a wrong size")

    def _read_verified(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        flat = found.reshape(len(rows), self._row_bytes)
        for i in np.argsort(rows, kind="stable").tolist():  # in the order on disk
            row = int(rows[i])
            if not 0 <= row < len(self):
                raise IndexError(f"row must be in 0..{len(self) - 1}, got {row}")
            got = os.preadv(self._file, [flat[i]], row * self._row_bytes)
            if got != self._row_bytes or zlib.crc32(flat[i]) != self.checksums[row]:
                raise DamagedStoreError(f"row {row} of {self.folder} changed on disk")
        return found


def open_pixel_store(
    samples: Samples, size: int, color: Color, cache: str | Path | None = None, max_gb: float | None = None
) -> PixelStore:
    """The store of these samples at `size` x `size`; the images are decoded now unless a store exists.

    One process builds a store; others wait for it. The reasons of unreadable images are stored in `bad`, so that every
    later run treats them alike.

    Args:
        samples: the samples; several may have the same digest.
        size: side in pixels.
        color: gray or rgb.
        cache: the cache folder, see `cache_folder`.
        max_gb: limit of the cache, see `limit_bytes`; the least recently used entries make room.

    Raises:
        UserError: the disk is full, the cache is not writable, or an image changed while it was read.
    """
    digests = _distinct(text_array(samples.digests))
    stores = cache_folder(cache) / "pixels"
    folder = stores / _key(digests, size, color)
    try:
        return _open_store(folder, digests)
    except DamagedStoreError as error:
        if folder.exists():
            _log.warning("%s; decoding again", error)
    shape = (len(digests), 1 if color == "gray" else 3, size, size)
    with translate_cache_errors("decoded images", stores, _bytes(shape)):
        stores.mkdir(exist_ok=True)
        with build_lock(folder, "decoding these images", check_stop):
            try:
                return _open_store(folder, digests)  # another process has built it meanwhile
            except DamagedStoreError:
                remove_unfinished(folder)
            _make_room(stores, _bytes(shape), max_gb)
            _build(samples, digests, folder, shape, color)
            return PixelStore(folder, digests)


def _distinct(digests: NDArray[np.bytes_]) -> TextColumn:
    """The sorted, distinct digests."""
    ordered = digests[sorting_order(digests)]
    is_new = np.ones(len(ordered), dtype=np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return TextColumn(ordered[is_new])


def _open_store(folder: Path, digests: TextColumn) -> PixelStore:
    store = PixelStore(folder, digests)
    mark_used(folder)
    return store


def _bytes(shape: Shape) -> int:
    return int(np.prod(shape)) + 4 * shape[0]


def _make_room(stores: Path, needed: int, max_gb: float | None) -> None:
    limit = limit_bytes(stores, max_gb)
    if not make_room(stores, needed, limit, ()):
        # The run needs these images: all other entries are removed, and these when another run needs room.
        make_room(stores, 0, max(0, limit - needed), ())
        _log.warning(
            "decoded images take %.3g GB, but features.max_gb allows %.3g for the whole cache; they are written "
            "anyway, and all other entries are removed",
            needed / 1e9,
            limit / 1e9,
        )


def _key(digests: Sequence[str], size: int, color: Color) -> str:
    key = hashlib.sha256(f"eyegender pixels {FORMAT} {size} {color} bicubic".encode())
    for piece in joined_lines(b"\n", text_array(digests)):
        key.update(piece)
    return key.hexdigest()[:32]


def _build(samples: Samples, digests: TextColumn, folder: Path, shape: Shape, color: Color) -> None:
    with atomic_folder(folder) as temporary:
        bad = _write_pixels(samples, digests, temporary, shape, color)
        manifest = json.dumps({"format": FORMAT, "shape": shape, "color": color, "bad": bad}, indent=1)
        write_synced(temporary / MANIFEST, manifest.encode())


def _write_pixels(samples: Samples, digests: TextColumn, folder: Path, shape: Shape, color: Color) -> dict[str, str]:
    """Decode every distinct image into its row; returns the reasons of unreadable ones by digest."""
    row_of = find_texts(text_array(samples.digests), digests.values)
    # In the reader's order, both eyes of one file follow each other, so the file is decoded once.
    wanted = np.sort(np.unique(row_of, return_index=True)[1])
    tasks = [wanted[start : start + _TASK] for start in range(0, len(wanted), _TASK)]
    row_bytes = int(np.prod(shape[1:]))
    checksums = np.full(len(digests), zlib.crc32(bytes(row_bytes)), dtype="<u4")
    bad: dict[str, str] = {}

    def decode(task: NDArray[np.int64]) -> int:
        for i, row in zip(task.tolist(), row_of[task].tolist(), strict=True):
            try:
                pixels = to_pixels(samples.open(i), shape[-1], color)
            except UnreadableImageError as error:
                bad[samples.digests[i]] = str(error)
                continue
            write_at(file, pixels.reshape(-1).data, row * row_bytes)
            checksums[row] = zlib.crc32(pixels.data)
        return len(task)

    with (
        preallocated_file(folder / PIXELS, len(digests) * row_bytes) as file,
        show_progress("decoding images", len(wanted)) as progress,
        ThreadPoolExecutor(_threads()) as pool,
    ):
        try:
            for count in pool.map(decode, tasks):
                progress(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    write_synced(folder / CHECKSUMS, checksums.tobytes())
    return {digest: bad[digest] for digest in sorted(bad)}


def _threads() -> int:
    """Forked processes were not faster (9,280 eyes, two cores), and they would need picklable readers."""
    return max(2, min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))


def _read_manifest(folder: Path, count: int) -> tuple[Shape, Mapping[str, str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        shape = tuple(int(n) for n in manifest["shape"])
        bad = dict(manifest["bad"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedStoreError(f"{folder} without a complete manifest") from error
    if manifest.get("format") != FORMAT or len(shape) != 4 or shape[0] != count or min(shape[1:]) < 1:
        raise DamagedStoreError(f"{folder} with the manifest of another store")
    return (shape[0], shape[1], shape[2], shape[3]), bad
