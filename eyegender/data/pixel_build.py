"""Builds the pixel store of a data set, or waits for the process that is building it."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from eyegender.data.cache_folder import cache_folder
from eyegender.data.decode import Color, to_pixels
from eyegender.data.pixel_store import CHECKSUMS, FORMAT, MANIFEST, PIXELS, DamagedStoreError, PixelStore
from eyegender.data.progress import show_progress
from eyegender.data.samples import BadPictureError, Samples
from eyegender.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_TASK = 64  # pictures per task: enough to hide the cost of a task, few enough for a smooth bar
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_log = logging.getLogger(__name__)


def open_pixel_store(samples: Samples, size: int, color: Color, cache: str | Path | None = None) -> PixelStore:
    """The store of these samples at `size` x `size`, decoded now unless some run has done it before.

    Pictures that cannot be read are remembered in the store's `bad`, so that every later run judges them alike.

    Raises:
        UserError: the disk is full, the cache cannot be written, or a picture changed while it was read.
    """
    digests = sorted(set(samples.digests))
    stores = cache_folder(cache) / "pixels"
    folder = stores / _key(digests, size, color)
    try:
        return PixelStore(folder, digests)
    except DamagedStoreError as error:
        if folder.exists():
            _log.warning("%s; decoding anew", error)
    shape = (len(digests), 1 if color == "gray" else 3, size, size)
    with _told_in_one_line(stores, int(np.prod(shape)) + 4 * len(digests)):
        stores.mkdir(exist_ok=True)
        return _open_or_build(samples, digests, folder, shape, color)


def _open_or_build(
    samples: Samples, digests: list[str], folder: Path, shape: tuple[int, int, int, int], color: Color
) -> PixelStore:
    with _only_builder(folder):
        try:
            return PixelStore(folder, digests)  # another process has built it meanwhile
        except DamagedStoreError:
            _remove_leftovers(folder)
        _build(samples, digests, folder, shape, color)
        return PixelStore(folder, digests)


@contextmanager
def _told_in_one_line(stores: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"decoded pictures need {needed:,} bytes in {stores}, got a full disk; "
                "make room there or set EYEGENDER_CACHE to another disk"
            ) from error
        raise UserError(
            f"decoded pictures must be writable to {stores}, got {error.strerror or error}; "
            "set EYEGENDER_CACHE to another folder"
        ) from error


def _key(digests: Iterable[str], size: int, color: Color) -> str:
    key = hashlib.sha256(f"eyegender pixels {FORMAT} {size} {color} bicubic".encode())
    for digest in digests:
        key.update(b"\n" + digest.encode())
    return key.hexdigest()[:32]


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """One builder per store; the lock is the kernel's and dies with its process."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("another process is decoding these pictures; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    """Under the lock nobody else builds, so whatever is unfinished belongs to a builder that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(f"{folder.name}.building-*"):
        shutil.rmtree(left, ignore_errors=True)


def _build(samples: Samples, digests: list[str], folder: Path, shape: tuple[int, int, int, int], color: Color) -> None:
    """Write the store aside, and give it its name when every byte of it is on the disk."""
    aside = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    try:
        aside.mkdir()
        bad = _write_pixels(samples, digests, aside, shape, color)
        manifest = json.dumps({"format": FORMAT, "shape": shape, "color": color, "bad": bad}, indent=1)
        _write_synced(aside / MANIFEST, manifest.encode())
        aside.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
            _write_all(file, pixels.reshape(-1), row_of[digest] * row_bytes)
            checksums[row_of[digest]] = zlib.crc32(pixels.data)
        return len(task)

    file = os.open(aside / PIXELS, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _reserve(file, len(digests) * row_bytes)
        with show_progress("decoding pictures", len(wanted)) as progress, ThreadPoolExecutor(_workers()) as pool:
            try:
                for count in pool.map(decode, tasks):
                    progress(count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        os.fsync(file)
    finally:
        os.close(file)
    _write_synced(aside / CHECKSUMS, checksums.tobytes())
    return {digest: bad[digest] for digest in sorted(bad)}


def _workers() -> int:
    """Threads: forked processes were no quicker (9,280 eyes, two cores), and readers need not be picklable."""
    return max(2, min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))


def _reserve(file: int, size: int) -> None:
    """Take the space now, so that a full disk shows before the work and not in the middle of it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
    os.ftruncate(file, size)


def _write_all(file: int, data: NDArray[np.uint8], offset: int) -> None:
    view = memoryview(data.data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
