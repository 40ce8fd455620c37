"""Keeps the store within its limit: the entries that were not used for longest go first."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from filelock import Timeout

from eyegender.features.activation_store import MANIFEST
from eyegender.file_locks import new_lock

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

DEFAULT_SHARE = 0.25  # of the disk space that is free or taken by the store


def limit_bytes(folder: Path, max_gb: float | None) -> int:
    """How many bytes the store may take.

    Args:
        folder: the store.
        max_gb: in 10^9 bytes, or None for a share of the disk.
    """
    if max_gb is not None:
        return int(max_gb * 1e9)
    existing = folder if folder.exists() else folder.parent
    return int(DEFAULT_SHARE * (shutil.disk_usage(existing).free + sum(entry_sizes(folder).values())))


def entry_sizes(folder: Path) -> dict[Path, int]:
    """Bytes of each finished entry, the one used longest ago first."""
    found: dict[Path, tuple[float, int]] = {}
    for manifest in folder.glob(f"*/{MANIFEST}"):
        if ".building-" in manifest.parent.name:
            continue
        try:
            size = sum(path.stat().st_size for path in manifest.parent.iterdir())
            found[manifest.parent] = manifest.stat().st_mtime, size
        except OSError:  # another process has just cleaned it away
            continue
    return {entry: found[entry][1] for entry in sorted(found, key=lambda entry: found[entry][0])}


def make_room(folder: Path, needed: int, limit: int, keep: Collection[Path]) -> bool:
    """Remove the oldest entries until `needed` more bytes are within `limit`; whether they are.

    Args:
        folder: the store.
        needed: bytes about to be written.
        limit: bytes that the store may take.
        keep: entries that must stay.
    """
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


def _remove(entry: Path) -> bool:
    lock = new_lock(entry.with_name(f"{entry.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            # Without its manifest the entry is nobody's any more, even if this process dies before the rest is gone.
            (entry / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
    except Timeout:  # somebody is just building it
        return False
    return True
