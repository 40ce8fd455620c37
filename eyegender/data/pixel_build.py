"""Builds the pixel store of a data set, or waits for the process that is building it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.atomic_write import atomic_folder, preallocated_file, write_at, write_synced
from eyegender.core.cache import (
    build_lock,
    cache_folder,
    limit_bytes,
    make_room,
    mark_used,
    remove_unfinished,
    translate_cache_errors,
)
from eyegender.core.progress import check_stop, show_progress
from eyegender.data.decode import Color, to_pixels
from eyegender.data.pixel_cache import CHECKSUMS, FORMAT, MANIFEST, PIXELS, DamagedStoreError, PixelStore
from eyegender.data.samples import BadPictureError, Samples

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TASK = 64  # pictures per task: enough to hide the cost of a task, few enough for a smooth bar
_log = logging.getLogger(__name__)


def open_pixel_store(
    samples: Samples, size: int, color: Color, cache: str | Path | None = None, max_gb: float | None = None
) -> PixelStore:
    """The store of these samples at `size` x `size`, decoded now unless some run has done it before.

    Pictures that cannot be read are remembered in the store's `bad`, so that every later run judges them alike.

    Args:
        samples: any number of them may show the same picture.
        size: side in pixels.
        color: gray or rgb.
        cache: see `cache_folder`.
        max_gb: what the stores of the cache may take, see `limit_bytes`; older entries make room.

    Raises:
        UserError: the disk is full, the cache cannot be written, or a picture changed while it was read.
    """
    digests = sorted(set(samples.digests))
    stores = cache_folder(cache) / "pixels"
    folder = stores / _key(digests, size, color)
    try:
        return _opened(folder, digests)
    except DamagedStoreError as error:
        if folder.exists():
            _log.warning("%s; decoding anew", error)
    shape = (len(digests), 1 if color == "gray" else 3, size, size)
    with translate_cache_errors("decoded pictures", stores, _bytes(shape)):
        stores.mkdir(exist_ok=True)
        return _open_or_build(samples, digests, folder, shape, color, max_gb=max_gb)


def _opened(folder: Path, digests: list[str]) -> PixelStore:
    store = PixelStore(folder, digests)
    mark_used(folder)
    return store


def _open_or_build(
    samples: Samples,
    digests: list[str],
    folder: Path,
    shape: tuple[int, int, int, int],
    color: Color,
    *,
    max_gb: float | None,
) -> PixelStore:
    with build_lock(folder, "decoding these pictures", check_stop):
        try:
            return _opened(folder, digests)  # another process has built it meanwhile
        except DamagedStoreError:
            remove_unfinished(folder)
        _make_room(folder.parent, _bytes(shape), max_gb)
        _build(samples, digests, folder, shape, color)
        return PixelStore(folder, digests)


def _bytes(shape: tuple[int, int, int, int]) -> int:
    return int(np.prod(shape)) + 4 * shape[0]


def _make_room(stores: Path, needed: int, max_gb: float | None) -> None:
    limit = limit_bytes(stores, max_gb)
    if not make_room(stores, needed, limit, ()):
        # A run cannot do without: all else goes, and they go when another run needs room.
        make_room(stores, 0, max(0, limit - needed), ())
        _log.warning(
            "decoded pictures take %.3g GB, and features.max_gb allows %.3g for the whole cache; they are written all "
            "the same, and everything else was cleaned away",
            needed / 1e9,
            limit / 1e9,
        )


def _key(digests: Iterable[str], size: int, color: Color) -> str:
    key = hashlib.sha256(f"eyegender pixels {FORMAT} {size} {color} bicubic".encode())
    for digest in digests:
        key.update(b"\n" + digest.encode())
    return key.hexdigest()[:32]


def _build(samples: Samples, digests: list[str], folder: Path, shape: tuple[int, int, int, int], color: Color) -> None:
    with atomic_folder(folder) as aside:
        bad = _write_pixels(samples, digests, aside, shape, color)
        manifest = json.dumps({"format": FORMAT, "shape": shape, "color": color, "bad": bad}, indent=1)
        write_synced(aside / MANIFEST, manifest.encode())


def _write_pixels(
    samples: Samples, digests: list[str], aside: Path, shape: tuple[int, int, int, int], color: Color
) -> dict[str, str]:
    """Decode every different picture into its row; returns the reasons of those that could not be read."""
    row_of = {digest: row for row, digest in enumerate(digests)}
    first = {digest: i for i, digest in reversed(list(enumerate(samples.digests)))}
    # In the reader's order: two eyes of one file follow each other, so that the file is decoded once for both.
    wanted = sorted(first.values())
    tasks = [wanted[start : start + _TASK] for start in range(0, len(wanted), _TASK)]
    row_bytes = int(np.prod(shape[1:]))
    checksums = np.full(len(digests), zlib.crc32(bytes(row_bytes)), dtype="<u4")
    bad: dict[str, str] = {}

    def decode(task: list[int]) -> int:
        for i in task:
            digest = samples.digests[i]
            try:
                pixels = to_pixels(samples.open(i), shape[-1], color)
            except BadPictureError as error:
                bad[digest] = str(error)
                continue
            write_at(file, pixels.reshape(-1).data, row_of[digest] * row_bytes)
            checksums[row_of[digest]] = zlib.crc32(pixels.data)
        return len(task)

    with (
        preallocated_file(aside / PIXELS, len(digests) * row_bytes) as file,
        show_progress("decoding pictures", len(wanted)) as progress,
        ThreadPoolExecutor(_workers()) as pool,
    ):
        try:
            for count in pool.map(decode, tasks):
                progress(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    write_synced(aside / CHECKSUMS, checksums.tobytes())
    return {digest: bad[digest] for digest in sorted(bad)}


def _workers() -> int:
    """Threads: forked processes were no quicker (9,280 eyes, two cores), and readers need not be picklable."""
    return max(2, min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))
