"""`data=folder`: one folder of pictures per class."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.data.decode import SUFFIXES, decode
from eyegender.data.picture_bytes import read_picture
from eyegender.data.picture_facts import PictureFacts, picture_facts
from eyegender.data.samples import BadPictureError, Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

_log = logging.getLogger(__name__)


class FolderReader:
    """Class folders of JPEG, PNG, BMP and WebP pictures of any size and mode; other and hidden files are left alone.

    The class folders may be links. A link among the pictures may lead to another place inside the data set only: what
    comes as an archive must not bring in files of this machine.

    Args:
        root: the folder that holds the class folders; relative means from the working directory.
        classes: names of the two class folders, label 0 first.
        cache: where content hashes are remembered, see `cache_folder`.
    """

    def __init__(self, root: str | Path, classes: Sequence[str], cache: str | Path | None = None) -> None:
        self.root = Path(root).expanduser()
        self.classes = _two_names(classes)
        self.cache = cache

    def check(self) -> None:
        """Raises UserError where the root or a class folder is missing."""
        if not self.root.is_dir():
            raise UserError(f"data.root must be a folder that exists, got {self.root.absolute()}; set data.root")
        for name in self.classes:
            if not (self.root / name).is_dir():
                found = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and entry.name[0] != ".")
                raise UserError(
                    f"data.root must hold a folder per class, got {self.root.absolute()} without {name!r} "
                    f"(folders there: {', '.join(found) or 'none'}); set data.classes=[LABEL0,LABEL1]"
                )

    def read(self) -> Samples:
        self.check()
        listed = [(f"{name}/{path.name}", label, path) for label, name in enumerate(self.classes)
                  for path in self._pictures(name)]  # fmt: skip
        listed.sort(key=lambda entry: entry[0])
        paths = [path for _, _, path in listed]
        facts = picture_facts(paths, self.cache)
        return Samples(
            source="folder",
            names=tuple(name for name, _, _ in listed),
            labels=np.array([label for _, label, _ in listed], dtype=np.uint8),
            digests=tuple(fact.sha256 for fact in facts),
            open=lambda i: _open(paths[i], facts[i]),
            classes=self.classes,
            sizes=np.array([(fact.width, fact.height) for fact in facts], dtype=np.int32),
        )

    def _pictures(self, name: str) -> list[Path]:
        folder = self.root / name
        try:
            with os.scandir(folder) as entries:
                files = [Path(entry.path) for entry in entries if entry.name[0] != "." and not is_folder(entry)]
        except OSError as error:
            raise UserError(f"class folder must be readable, got {folder} ({error.strerror}); allow reading") from error
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        self._check_links(folder, pictures)
        if left := len(files) - len(pictures):
            _log.warning("%s: %d files are no pictures by name and are left alone", one_line(str(folder)), left)
        if len(pictures) < 2:
            count = "no picture" if not pictures else "one picture"
            raise UserError(
                f"each class needs two pictures or more ({', '.join(sorted(SUFFIXES))}), got {count} in "
                f"{folder.absolute()}; add pictures or set data.classes"
            )
        return pictures

    def _check_links(self, folder: Path, pictures: list[Path]) -> None:
        inside = (self.root.resolve(), folder.resolve())
        for path in pictures:
            target = link_target(path)
            if target is not None and not any(target.is_relative_to(place) for place in inside):
                raise UserError(
                    f"pictures must lie in {self.root.absolute()}, got the link {path} to {target}; "
                    "replace it by the file"
                )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is none, and is told when it is opened."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def link_target(path: Path) -> Path | None:
    """Where a link leads in the end, as far as it leads; None where `path` is no link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else None  # resolve() would raise at a link to itself


def _two_names(classes: Sequence[str]) -> tuple[str, str]:
    names = tuple(str(name) for name in classes)
    if len(names) != 2 or names[0] == names[1]:
        raise UserError(f"data.classes must be two different names, label 0 first, got {list(names)}")
    for name in names:
        if not name or PurePath(name).name != name or name == "..":
            raise UserError(f"data.classes must name folders inside data.root, got {name!r}")
    return names[0], names[1]


def _open(path: Path, facts: PictureFacts) -> Image.Image:
    if facts.error:
        raise BadPictureError(facts.error)
    data = read_unchanged(path, facts)
    return decode(data)


def read_unchanged(path: Path, facts: PictureFacts) -> bytes:
    """The file's bytes, which must still be those that were hashed: what is cached is keyed by that hash.

    Raises:
        UserError: the file has gone or changed since.
    """
    try:
        data = read_picture(path)
    except (OSError, BadPictureError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"pictures must stay readable, got {path} ({reason}); run again") from error
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise UserError(f"pictures must not change during a run, got a new {path}; run again")
    return data
