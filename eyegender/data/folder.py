"""`data=folder`: one folder of images per class."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.cache import cache_folder
from eyegender.core.errors import UserError, one_line
from eyegender.core.eye_study import EYE_FOLDERS
from eyegender.data.decode import SUFFIXES, decode, read_image_bytes
from eyegender.data.image_facts import ImageFacts, has_settled, image_facts
from eyegender.data.readers import Samples, UnreadableImageError, label_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

_log = logging.getLogger(__name__)

_NO_CLASSES = {"__MACOSX"}  # besides hidden folders
_MOST_NAMED = 20  # folders in a message

_Listing = tuple[object, ...]
# What the last reader of this process found, and the listing of its files: trials of a sweep read the same folder.
_last: tuple[_Listing, Samples] | None = None


class FolderReader:
    """Reads class folders of JPEG, PNG, BMP and WebP images of any size and mode; ignores other and hidden files.

    The class folders may be links. A link to an image must lead into the data set, so that a downloaded data set cannot
    include other files of this machine.

    Args:
        root: the folder that contains the class folders; a relative path is relative to the working directory.
        classes: names of the class folders, label 0 first; or a map from folders to class names, of which several may
            be equal; or None for all folders that contain an image, sorted by name. `femaleeyes` and `maleeyes` are the
            only two classes then, if both exist. Hidden folders and `__MACOSX` are no classes.
        cache: the cache folder for content hashes, see `cache_folder`.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[object] | Mapping[object, object] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self._given = None if classes is None else _class_of_folders(classes)
        self.cache = cache

    def check(self) -> None:
        """Raises UserError if the root or a class folder does not exist."""
        self._class_of()

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of their labels; lists folders only to find them.

        Raises:
            UserError: as `check`, if the classes must be found.
        """
        class_of = self._class_of() if self._given is None else self._given
        return tuple(dict.fromkeys(class_of.values()))

    def _class_of(self) -> dict[str, str]:
        """The class of each class folder, by the name of the folder."""
        if not self.root.is_dir():
            raise UserError(f"data.root must be a folder that exists, got {self.root.absolute()}; set data.root")
        if self._given is None:
            return self._find_classes()
        for name in self._given:
            if not (self.root / name).is_dir():
                raise UserError(
                    f"data.root must hold a folder per class, got {self.root.absolute()} without {name!r} "
                    f"(folders there: {_listed(_subfolders(self.root))}); set data.classes=[LABEL0,LABEL1]"
                )
        return self._given

    def _find_classes(self) -> dict[str, str]:
        """The folders that contain an image; each is a class of its own name."""
        folders = _subfolders(self.root)
        if set(EYE_FOLDERS) <= set(folders):
            if others := [name for name in folders if name not in EYE_FOLDERS]:
                _mention(
                    f"{one_line(str(self.root))}: the classes are {' and '.join(EYE_FOLDERS)}; other folders are "
                    f"ignored ({_listed(others)}), data.classes chooses"
                )
            return {name: name for name in EYE_FOLDERS}
        found = [name for name in folders if _has_image(self.root / name)]
        if len(found) < 2:
            below = [name for name in folders if sum(map(_has_image, _paths(self.root / name))) > 1]
            raise UserError(
                f"data.root must hold a folder of images per class, two or more, got {self.root.absolute()} with "
                f"{len(found)} (folders there: {_listed(folders)}); "
                + (f"set data.root={self.root / below[0]}" if below else "add folders of images, or set data.root")
            )
        if empty := [name for name in folders if name not in found]:
            _mention(f"{one_line(str(self.root))}: folders without an image are no classes ({_listed(empty)})")
        return {name: name for name in found}

    def read(self) -> Samples:
        """List the images; if no file has changed since this process listed the same folders, what it found then."""
        global _last  # noqa: PLW0603 - one data set per process
        class_of = self._class_of()
        listing = self._listing(class_of)
        if listing is not None and _last is not None and _last[0] == listing:
            return _last[1]
        samples = self._read(class_of)
        _last = None if listing is None else (listing, samples)
        return samples

    def _listing(self, class_of: Mapping[str, str]) -> _Listing | None:
        """Name, size, modification time, inode and link of each file; None if a file may still be changing.

        It is made before the files are read: a file that changes meanwhile has another listing the next time.
        """
        found: list[object] = [self.root.absolute(), *class_of.items(), str(self.cache), cache_folder(self.cache)]
        newest = 0
        try:
            for name in class_of:
                with os.scandir(self.root / name) as entries:
                    for entry in entries:
                        stat = entry.stat()
                        newest = max(newest, stat.st_mtime_ns)
                        link = Path(entry).readlink() if entry.is_symlink() else None
                        found.append((name, entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino, link))
        except OSError:
            return None  # `_image_paths` reports it
        return tuple(found) if has_settled(newest) else None

    def _read(self, class_of: Mapping[str, str]) -> Samples:
        classes = tuple(dict.fromkeys(class_of.values()))
        paths_of = {folder: self._image_paths(folder) for folder in class_of}
        for name in classes:
            folders = [folder for folder in class_of if class_of[folder] == name]
            count = sum(len(paths_of[folder]) for folder in folders)
            if count < 2:
                raise UserError(
                    f"each class needs two images or more ({', '.join(sorted(SUFFIXES))}), got "
                    f"{'one image' if count else 'no image'} in "
                    f"{' and '.join(str((self.root / folder).absolute()) for folder in folders)}; add images or set "
                    "data.classes"
                )
        label_of = {name: label for label, name in enumerate(classes)}
        listed = [(f"{folder}/{path.name}", label_of[class_of[folder]], path) for folder, paths in paths_of.items()
                  for path in paths]  # fmt: skip
        listed.sort(key=lambda entry: entry[0])
        paths = [path for _, _, path in listed]
        facts = image_facts(paths, self.cache)
        return Samples(
            source="folder",
            names=tuple(name for name, _, _ in listed),
            labels=np.array([label for _, label, _ in listed], dtype=label_type(classes)),
            digests=tuple(fact.sha256 for fact in facts),
            open=lambda i: _open(paths[i], facts[i]),
            classes=classes,
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


@cache  # once per process: a command looks for the classes several times
def _mention(line: str) -> None:
    _log.info("%s", line)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:_MOST_NAMED]) or "none"
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _subfolders(root: Path) -> list[str]:
    """The names of the folders that can be classes, sorted."""
    return sorted(path.name for path in _paths(root) if path.name[0] != "." and path.name not in _NO_CLASSES)


def _paths(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders included.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if is_folder(entry)]
    except OSError as error:
        raise UserError(f"class folder must be readable, got {folder} ({error.strerror}); allow reading") from error


def _has_image(folder: Path) -> bool:
    """Whether a file in the folder has the suffix of an image; true if that cannot be known, which reading reports."""
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name[0] != "." and Path(entry.name).suffix.lower() in SUFFIXES and not is_folder(entry)
                for entry in entries
            )
    except OSError:
        return True


def _class_of_folders(classes: Sequence[object] | Mapping[object, object]) -> dict[str, str]:
    """The class of each folder, as `data.classes` gives it: a list of folders, or a map from folders to classes."""
    if isinstance(classes, str):
        raise UserError(f"data.classes must be two or more different names, label 0 first, got {classes!r}")
    # YAML reads folder names such as 0 and 1 as numbers.
    if isinstance(classes, Mapping):
        class_of = {str(folder): str(name) for folder, name in classes.items()}
        if len(set(class_of.values())) < 2 or not all(class_of.values()):
            raise UserError(f"data.classes must map folders to two or more class names, got {dict(classes)}")
    else:
        names = [str(name) for name in classes]
        class_of = {name: name for name in names}
        if len(names) < 2 or len(class_of) < len(names):
            raise UserError(f"data.classes must be two or more different names, label 0 first, got {names}")
    for folder in class_of:
        if not folder or PurePath(folder).name != folder or folder == "..":
            raise UserError(f"data.classes must name folders inside data.root, got {folder!r}")
    return class_of


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
