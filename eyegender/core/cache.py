"""The cache of decoded images and stored activations: its folder, one builder per entry, and one limit on its size.

An entry is a folder that holds a manifest. It is complete or does not exist: builders use `atomic_folder`. When the
limit is reached, the least recently used entries are removed first.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.atomic_write import BUILDING
from eyegender.core.errors import UserError, is_disk_full, translate_disk_errors
from eyegender.core.file_locks import file_lock, lacks_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MANIFEST = "manifest.json"  # its modification time is the time of last use
STORES = ("activations", "pixels")  # folders of one cache that share the limit
DEFAULT_SHARE = 0.25  # limit as a fraction of the disk space that is free or used by the stores


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The cache folder; it is created if it does not exist.

    Args:
        chosen: the folder to use; None means the one in `EYEGENDER_CACHE`, else the user's cache folder.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    if chosen is None:
        chosen = os.environ.get("EYEGENDER_CACHE") or None
    if chosen is None:
        import platformdirs

        chosen = platformdirs.user_cache_path("eyegender")
    folder = Path(chosen).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder must be creatable, got {folder} ({error.strerror}); "
            "set EYEGENDER_CACHE to a folder that you may write to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"the cache folder must be writable, got {folder}; set EYEGENDER_CACHE to a folder that you may write to"
        )
    return folder


@contextmanager
def translate_cache_errors(what: str, folder: Path, needed: int) -> Iterator[None]:
    """Turn the error of a full or unwritable disk, or of one without file locks, into a `UserError`.

    Args:
        what: the data to be written, as a plural subject.
        folder: the folder that it is written to.
        needed: size of the data in bytes.
    """
    with translate_disk_errors(what, folder, needed, " or set EYEGENDER_CACHE to another disk"):
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise
            if lacks_locks(error):
                raise UserError(
                    f"{what} need a file system with file locks, got {error.strerror} in {folder}; set EYEGENDER_CACHE "
                    "to a folder on another file system, such as a local disk"
                ) from error
            raise UserError(
                f"{what} must be writable to {folder}, got {error.strerror or error}; set EYEGENDER_CACHE to another "
                "folder"
            ) from error


@contextmanager
def build_lock(folder: Path, task: str, check: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock under which one process builds an entry.

    Args:
        folder: the entry.
        task: what another process may be doing, for the log message while this one waits.
        check: called several times a second while waiting; an exception that it raises ends the wait.
    """
    with file_lock(_lock_path(folder), wait_message=f"another process is {task}; waiting for it", check=check):
        yield


def remove_unfinished(folder: Path) -> None:
    """Remove an entry and its temporary folders. The caller holds its `build_lock`, so their builders are dead."""
    shutil.rmtree(folder, ignore_errors=True)
    for leftover in folder.parent.glob(f"{folder.name}{BUILDING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def mark_used(folder: Path) -> None:
    """Record that the entry was used now."""
    with suppress(OSError):  # another user's entry, or one that was just removed; the time of use is only a hint
        os.utime(folder / MANIFEST)


def limit_bytes(store: Path, max_gb: float | None) -> int:
    """How many bytes all stores of a cache may use.

    Args:
        store: one of the stores.
        max_gb: the limit in 10^9 bytes; None means `DEFAULT_SHARE` of the disk.
    """
    if max_gb is not None:
        return int(max_gb * 1e9)
    existing = store if store.exists() else store.parent
    return int(DEFAULT_SHARE * (shutil.disk_usage(existing).free + sum(entry_sizes(store).values())))


def entry_sizes(store: Path) -> dict[Path, int]:
    """Bytes of each complete entry in all stores of the cache that `store` belongs to, least recently used first."""
    found: dict[Path, tuple[float, int]] = {}
    for manifest in (path for each in _all_stores(store) for path in each.glob(f"*/{MANIFEST}")):
        if BUILDING in manifest.parent.name:
            continue
        try:
            size = sum(path.stat().st_size for path in manifest.parent.iterdir())
            found[manifest.parent] = manifest.stat().st_mtime, size
        except OSError:  # another process has just removed it
            continue
    return {entry: found[entry][1] for entry in sorted(found, key=lambda entry: found[entry][0])}


def make_room(store: Path, needed: int, limit: int, keep: Collection[Path]) -> bool:
    """Remove the least recently used entries until `needed` more bytes fit into the limit; returns whether they do.

    Unfinished folders of killed builders are removed first. If `needed` can never fit, no entry is removed.

    Args:
        store: one of the cache's stores.
        needed: bytes that are about to be written.
        limit: bytes that all stores may use.
        keep: entries that are not removed.
    """
    for each in _all_stores(store):
        _remove_all_unfinished(each)
    sizes = entry_sizes(store)
    if sum(size for entry, size in sizes.items() if entry in keep) + needed > limit:
        return False
    total = sum(sizes.values())
    for entry, size in sizes.items():
        if total + needed <= limit:
            break
        if entry not in keep and _remove(entry):
            total -= size
    return total + needed <= limit


def _all_stores(store: Path) -> list[Path]:
    return [store, *(store.parent / name for name in STORES if name != store.name)]


def _remove(entry: Path) -> bool:
    with _try_build_lock(entry) as locked:
        if locked:
            # Without its manifest it is no entry any more, even if this process dies before the rest is removed.
            (entry / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
    return locked


def _remove_all_unfinished(store: Path) -> None:
    for path in store.glob("*/"):
        name, building, _ = path.name.partition(BUILDING)
        if building or not (path / MANIFEST).exists():
            with _try_build_lock(store / name) as locked:
                # The builder may have finished meanwhile; then the temporary folder does not exist any more.
                if locked and (building or not (path / MANIFEST).exists()):
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _try_build_lock(entry: Path) -> Iterator[bool]:
    """Hold the entry's build lock unless another process holds it; yields whether this process does."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(_lock_path(entry), 0))
        except OSError:  # filelock.Timeout is one, too
            locked = False
        else:
            locked = True
        yield locked


def _lock_path(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")
