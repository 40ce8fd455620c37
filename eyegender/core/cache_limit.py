"""Keeps decoded pictures and stored activations within one limit: the entries not used for longest go first."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.core.file_locks import new_lock
from eyegender.data.pixel_cache import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

STORES = ("activations", "pixels")  # folders of one cache
DEFAULT_SHARE = 0.25  # of the disk space that is free or taken by the stores
_BUILDING = ".building-"


def limit_bytes(folder: Path, max_gb: float | None) -> int:
    """How many bytes all stores of a cache may take.

    Args:
        folder: one of them.
        max_gb: in 10^9 bytes, or None for a share of the disk.
    """
    if max_gb is not None:
        return int(max_gb * 1e9)
    existing = folder if folder.exists() else folder.parent
    return int(DEFAULT_SHARE * (shutil.disk_usage(existing).free + sum(entry_sizes(folder).values())))


def entry_sizes(folder: Path) -> dict[Path, int]:
    """Bytes of each finished entry of `folder` and the other stores of its cache, the one used longest ago first."""
    found: dict[Path, tuple[float, int]] = {}
    for manifest in (path for store in _stores(folder) for path in store.glob(f"*/{MANIFEST}")):
        if _BUILDING in manifest.parent.name:
            continue
        try:
            size = sum(path.stat().st_size for path in manifest.parent.iterdir())
            found[manifest.parent] = manifest.stat().st_mtime, size
        except OSError:  # another process has just cleaned it away
            continue
    return {entry: found[entry][1] for entry in sorted(found, key=lambda entry: found[entry][0])}


def make_room(folder: Path, needed: int, limit: int, keep: Collection[Path]) -> bool:
    """Remove the oldest entries until `needed` more bytes are within `limit`; whether they are.

    What killed builders left is removed first, for it is no use to anybody.

    Args:
        folder: one of the cache's stores.
        needed: bytes about to be written.
        limit: bytes that all stores may take.
        keep: entries that must stay.
    """
    for store in _stores(folder):
        _remove_unfinished(store)
    sizes = entry_sizes(folder)
    kept = sum(size for entry, size in sizes.items() if entry in keep)
    if kept + needed > limit:
        return False
    total = sum(sizes.values())
    for entry, size in sizes.items():
        if total + needed <= limit:
            break
        if entry not in keep and _remove(entry):
            total -= size
    return total + needed <= limit


def _stores(folder: Path) -> list[Path]:
    return [folder, *(folder.parent / name for name in STORES if name != folder.name)]


def _remove(entry: Path) -> bool:
    with _alone(entry) as alone:
        if alone:
            # Without its manifest the entry is nobody's any more, even if this process dies before the rest is gone.
            (entry / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
    return alone


def _remove_unfinished(store: Path) -> None:
    for path in store.glob("*/"):
        name, building, _ = path.name.partition(_BUILDING)
        if building or not (path / MANIFEST).exists():
            with _alone(store / name) as alone:
                # Its builder may have given it its name since; then the unfinished folder is gone.
                if alone and (building or not (path / MANIFEST).exists()):
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(entry: Path) -> Iterator[bool]:
    """Whether nobody is building the entry; nobody begins to within the block."""
    lock = new_lock(entry.with_name(f"{entry.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
