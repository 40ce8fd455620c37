"""`data=folder`: one folder of images per class."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.cache import cache_folder
from eyegender.core.errors import UserError, one_line
from eyegender.data.decode import SUFFIXES, decode, read_image_bytes
from eyegender.data.image_facts import ImageFacts, has_settled, image_facts
from eyegender.data.readers import Samples, UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

_log = logging.getLogger(__name__)

_Listing = tuple[object, ...]
# What the last reader of this process found, and the listing of its files: trials of a sweep read the same folder.
_last: tuple[_Listing, Samples] | None = None


class FolderReader:
    """Reads class folders of JPEG, PNG, BMP and WebP images of any size and mode; ignores other and hidden files.

    The class folders may be links. A link to an image must lead into the data set, so that a downloaded data set cannot
    include other files of this machine.

    Args:
        root: the folder that contains the class folders; a relative path is relative to the working directory.
        classes: names of the two class folders, label 0 first.
        cache: the cache folder for content hashes, see `cache_folder`.
    """

    def __init__(self, root: str | Path, classes: Sequence[str], cache: str | Path | None = None) -> None:
        self.root = Path(root).expanduser()
        self.classes = _two_names(classes)
        self.cache = cache

    def check(self) -> None:
        """Raises UserError if the root or a class folder does not exist."""
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
        """List the images; if no file has changed since this process listed the same folders, what it found then."""
        global _last  # noqa: PLW0603 - one data set per process
        self.check()
        listing = self._listing()
        if listing is not None and _last is not None and _last[0] == listing:
            return _last[1]
        samples = self._read()
        _last = None if listing is None else (listing, samples)
        return samples

    def _listing(self) -> _Listing | None:
        """Name, size, modification time, inode and link of each file; None if a file may still be changing.

        It is made before the files are read: a file that changes meanwhile has another listing the next time.
        """
        found: list[object] = [self.root.absolute(), self.classes, str(self.cache), cache_folder(self.cache)]
        newest = 0
        try:
            for name in self.classes:
                with os.scandir(self.root / name) as entries:
                    for entry in entries:
                        stat = entry.stat()
                        newest = max(newest, stat.st_mtime_ns)
                        link = Path(entry).readlink() if entry.is_symlink() else None
                        found.append((name, entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino, link))
        except OSError:
            return None  # `_image_paths` reports it
        return tuple(found) if has_settled(newest) else None

    def _read(self) -> Samples:
        listed = [(f"{name}/{path.name}", label, path) for label, name in enumerate(self.classes)
                  for path in self._image_paths(name)]  # fmt: skip
        listed.sort(key=lambda entry: entry[0])
        paths = [path for _, _, path in listed]
        facts = image_facts(paths, self.cache)
        return Samples(
            source="folder",
            names=tuple(name for name, _, _ in listed),
            labels=np.array([label for _, label, _ in listed], dtype=np.uint8),
            digests=tuple(fact.sha256 for fact in facts),
            open=lambda i: _open(paths[i], facts[i]),
            classes=self.classes,
            sizes=np.array([(fact.width, fact.height) for fact in facts], dtype=np.int32),
        )

    def _image_paths(self, name: str) -> list[Path]:
        folder = self.root / name
        try:
            with os.scandir(folder) as entries:
                files = [Path(entry.path) for entry in entries if entry.name[0] != "." and not is_folder(entry)]
        except OSError as error:
            raise UserError(f"class folder must be readable, got {folder} ({error.strerror}); allow reading") from error
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        self._check_links(folder, images)
        if ignored := len(files) - len(images):
            _log.warning("%s: %d files have no suffix of an image and are ignored", one_line(str(folder)), ignored)
        if len(images) < 2:
            count = "no image" if not images else "one image"
            raise UserError(
                f"each class needs two images or more ({', '.join(sorted(SUFFIXES))}), got {count} in "
                f"{folder.absolute()}; add images or set data.classes"
            )
        return images

    def _check_links(self, folder: Path, images: list[Path]) -> None:
        allowed = (self.root.resolve(), folder.resolve())
        for path in images:
            target = link_target(path)
            if target is not None and not any(target.is_relative_to(parent) for parent in allowed):
                raise UserError(
                    f"images must be in {self.root.absolute()}, got the link {path} to {target}; replace it by the file"
                )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. A link to itself is not; opening it reports the error."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def link_target(path: Path) -> Path | None:
    """The final target of a link, as far as it can be resolved; None if `path` is no link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else None  # resolve() raises on a link to itself


def _two_names(classes: Sequence[str]) -> tuple[str, str]:
    names = tuple(str(name) for name in classes)
    if len(names) != 2 or names[0] == names[1]:
        raise UserError(f"data.classes must be two different names, label 0 first, got {list(names)}")
    for name in names:
        if not name or PurePath(name).name != name or name == "..":
            raise UserError(f"data.classes must name folders inside data.root, got {name!r}")
    return names[0], names[1]


def _open(path: Path, facts: ImageFacts) -> Image.Image:
    if facts.error:
        raise UnreadableImageError(facts.error)
    return decode(read_unchanged(path, facts))


def read_unchanged(path: Path, facts: ImageFacts) -> bytes:
    """The bytes of the file, which must match the hash: the cache is keyed by it.

    Raises:
        UserError: the file was removed or changed since it was hashed.
    """
    try:
        data = read_image_bytes(path)
    except (OSError, UnreadableImageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"images must stay readable, got {path} ({reason}); run again") from error
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise UserError(f"images must not change during a run, got a new {path}; run again")
    return data
