"""Reads a picture's file, and nothing that only looks like one."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from eyegender.data.samples import BadPictureError

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_picture(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        BadPictureError: something else: a named pipe would be waited for, and a device may never end.
        OSError: it cannot be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise BadPictureError(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
    return path.read_bytes()
