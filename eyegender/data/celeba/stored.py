"""The stored result of reading CelebA's tables, so that a later start reads neither them nor the images.

An entry belongs to the contents of the tables, the folder of the images and the options. It is valid as long as no
image has another size, modification time or inode. Its arrays have checksums, so a damaged entry is no entry.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError
from eyegender.data.celeba.eyes import EyeTable
from eyegender.data.class_folders import is_folder, link_target
from eyegender.data.image_facts import has_settled
from eyegender.data.text_columns import sorting_order, text_array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_FORMAT = 1
_MOST_ENTRIES = 8  # tens of megabytes each
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Args:
        names: their sorted names.
        fingerprint: hex hash of names, sizes, modification times and inodes; empty if a file may still be changing.
    """

    names: NDArray[np.bytes_]
    fingerprint: str


def list_images(images: Path) -> Listing:
    """The files in the folder of the images.

    Raises:
        UserError: a link leads out of the folder, or it cannot be read.
    """
    resolved = images.resolve()
    names: list[str] = []
    stamps: list[int] = []
    try:
        with os.scandir(images) as entries:
            for entry in entries:
                if entry.is_symlink():
                    target = link_target(images / entry.name)
                    if target is not None and not target.is_relative_to(resolved):
                        raise UserError(
                            f"images must be in {images}, got the link {entry.name} to {target}; replace it by the file"
                        )
                if not is_folder(entry):
                    names.append(entry.name)
                    stamps += _stamp(entry)
    except OSError as error:
        raise UserError(f"{images} must be readable, got {error.strerror}; allow reading") from error
    listed, table = text_array(names), np.array(stamps, dtype=np.int64).reshape(-1, 3)
    order = sorting_order(listed)
    listed, table = listed[order], table[order]
    if not len(table) or table.min() < 0 or not has_settled(int(table[:, 1].max())):
        return Listing(listed, "")
    return Listing(listed, hashlib.sha256(f"{listed.dtype} ".encode() + listed.tobytes() + table.tobytes()).hexdigest())


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # a broken link, which reading reports
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ino & ((1 << 63) - 1)


def table_key(tables: Mapping[str, str], images: Path, *options: object) -> str:
    """Name of the entry.

    Args:
        tables: hex hash of each table by the name of its file.
        images: the folder of the images.
        *options: whatever else the result depends on.
    """
    parts = [f"eyegender celeba {_FORMAT}", *(f"{name} {sha256}" for name, sha256 in sorted(tables.items()))]
    parts += [os.fspath(images.absolute()), *map(repr, options)]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def load_eyes(folder: Path, key: str, listing: Listing) -> EyeTable | None:
    """The stored eyes; None if there are none, they are damaged, or the images have changed since.

    Args:
        folder: the folder of all entries.
        key: see `table_key`.
        listing: the images as they are now.
    """
    path = folder / f"{key}.npz"
    if not listing.fingerprint:
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if stored["listing"].tolist() != listing.fingerprint:
                return None
            table = EyeTable(**{field.name: stored[field.name] for field in fields(EyeTable)})
    except Exception:  # missing or damaged in any way: the tables are read again
        return None
    if not _fits(table):
        return None
    with suppress(OSError):  # the time of use is only a hint
        os.utime(path)
    return table


def store_eyes(folder: Path, key: str, listing: Listing, table: EyeTable) -> None:
    """Store the eyes; if that is not possible, the next run reads the tables again."""
    if not listing.fingerprint:
        return
    path = folder / f"{key}.npz"
    try:
        folder.mkdir(exist_ok=True)
        with atomic_write(path, "wb", one_writer=False) as file:
            arrays = {field.name: getattr(table, field.name) for field in fields(EyeTable)}
            np.savez(file, listing=np.array(listing.fingerprint), **arrays)
    except OSError as error:
        _log.warning("CelebA's tables could not be stored in %s: %s", folder, error)
        return
    with suppress(OSError):
        entries = sorted(folder.glob("*.npz"), key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for old in entries[_MOST_ENTRIES:]:
            old.unlink(missing_ok=True)


def _fits(table: EyeTable) -> bool:
    """Whether the arrays have the shapes and types of one table; a planted file could have others."""
    eyes, faces = len(table.names), len(table.faces)
    return (
        table.rows.shape == table.digests.shape == (eyes,)
        and table.boxes.shape == (eyes, 4)
        and table.attributes.shape == (len(table.columns), faces)
        and table.sha256.shape == (faces,)
        and table.persons.shape in {(0,), (faces,)}
        and table.splits.shape in {(0,), (faces,)}
        and all(array.dtype.kind == "S" for array in (table.names, table.faces, table.digests, table.sha256))
        and all(array.dtype.kind == "i" for array in (table.rows, table.boxes, table.persons, table.splits))
        and "Male" in table.columns.tolist()
        and 0 <= int(table.rows.min(initial=0)) <= int(table.rows.max(initial=0)) < max(1, faces)
    )
