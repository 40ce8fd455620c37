"""`data=folder`: one folder of images per class."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.cache import cache_folder
from eyegender.core.errors import UserError, one_line
from eyegender.core.eye_study import EYE_FOLDERS
from eyegender.data.class_folders import (
    class_folders,
    folders_in,
    has_image,
    image_names,
    images_of,
    link_target,
    named,
    read_contents,
)
from eyegender.data.decode import SUFFIXES, decode, read_image_bytes
from eyegender.data.image_facts import ImageFacts, has_settled, read_facts
from eyegender.data.readers import Samples, UnreadableImageError, label_type
from eyegender.data.text_columns import PathColumn, TextColumn, text_array

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
        self._given = None if classes is None else _class_of_folders(classes, self.root)
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

    def check_counts(self, least: int) -> None:
        """Raises UserError if a class has fewer than `least` (2 or 3) files with the suffix of an image."""
        class_of = self._class_of()
        counts = {folder: sum(1 for _ in islice(image_names(self.root / folder), least)) for folder in class_of}
        self._check_counts(class_of, counts, least)

    def _check_counts(self, class_of: Mapping[str, str], counts: Mapping[str, int], least: int) -> None:
        """Raises UserError for all classes of fewer than `least` images; `counts` are those of the folders."""
        few = []
        for name in dict.fromkeys(class_of.values()):
            folders = [folder for folder in class_of if class_of[folder] == name]
            count = sum(counts[folder] for folder in folders)
            if count < least:
                paths = [self.root.absolute() / folder for folder in folders]
                unread = ", ".join(filter(None, (read_contents(path).unread() for path in paths)))
                few.append(f"{images_of(count)} in {' and '.join(map(str, paths))}{f' ({unread})' if unread else ''}")
        if few:
            more = f" and {len(few) - 5} more" if len(few) > 5 else ""
            rule = {2: "two images or more", 3: "three images or more, one for each of train, val and test"}[least]
            raise UserError(
                f"each class needs {rule} ({', '.join(sorted(SUFFIXES))}), got {', '.join(few[:5])}{more}; add images, "
                "or set data.classes"
            )

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
                    f"(folders there: {named(class_folders(self.root))}); set data.classes=[LABEL0,LABEL1]"
                )
        return self._given

    def _find_classes(self) -> dict[str, str]:
        """The folders that contain an image; each is a class of its own name."""
        folders = class_folders(self.root)
        if set(EYE_FOLDERS) <= set(folders):
            if others := [name for name in folders if name not in EYE_FOLDERS]:
                _mention(
                    f"{one_line(str(self.root))}: the classes are {' and '.join(EYE_FOLDERS)}; other folders are "
                    f"ignored ({named(others)}), data.classes chooses"
                )
            return {name: name for name in EYE_FOLDERS}
        found = [name for name in folders if has_image(self.root / name)]
        below = [name for name in folders if sum(map(has_image, folders_in(self.root / name))) > 1]
        empty = [name for name in folders if name not in found]
        lost = {name: unread for name in empty if (unread := read_contents(self.root / name).unread())}
        if lost and (len(found) > 1 or not below):
            # A class that is missing without a word is worse than a folder that has to be named.
            what = "; ".join(f"{one_line(name)} with {unread}" for name, unread in list(lost.items())[:3])
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            choose = f", or choose the classes with data.classes=[{named(found, ',')}]" if len(found) > 1 else ""
            raise UserError(
                f"each class folder must hold JPEG, PNG, BMP or WebP images itself, got {what}{more} in "
                f"{self.root.absolute()}; move or convert the images{choose}"
            )
        if len(found) < 2:
            raise UserError(
                f"data.root must hold a folder of images per class, two or more, got {self.root.absolute()} with "
                f"{len(found)} (folders there: {named(folders)}); "
                + (f"set data.root={self.root / below[0]}" if below else "add folders of images, or set data.root")
            )
        if empty:
            _mention(f"{one_line(str(self.root))}: folders without an image are no classes ({named(empty)})")
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
        head = (self.root.absolute(), *class_of.items(), str(self.cache), cache_folder(self.cache))
        listing = hashlib.sha256()
        newest = 0
        try:
            for name in class_of:
                with os.scandir(self.root / name) as entries:
                    for entry in entries:
                        stat = entry.stat()
                        newest = max(newest, stat.st_mtime_ns)
                        link = Path(entry).readlink() if entry.is_symlink() else None
                        facts = f"{name}/{entry.name}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ino} {link}\0"
                        listing.update(facts.encode(errors="surrogateescape"))
        except OSError:
            return None  # `_image_names` reports it
        return (*head, listing.hexdigest()) if has_settled(newest) else None

    def _read(self, class_of: Mapping[str, str]) -> Samples:
        names_of = {folder: self._image_names(folder) for folder in class_of}
        self._check_counts(class_of, {folder: len(names) for folder, names in names_of.items()}, 2)
        classes = tuple(dict.fromkeys(class_of.values()))
        folders = sorted(names_of, key=lambda folder: f"{folder}/")
        names = TextColumn(text_array(f"{folder}/{name}" for folder in folders for name in sorted(names_of[folder])))
        label_of = [classes.index(class_of[folder]) for folder in folders]
        facts = read_facts(PathColumn(self.root, names), self.cache)
        return Samples(
            source="folder",
            names=names,
            labels=np.repeat(label_of, [len(names_of[folder]) for folder in folders]).astype(label_type(classes)),
            digests=facts.sha256,
            open=lambda i: _open(self.root / names[i], facts[i]),
            classes=classes,
            sizes=facts.sizes,
        )

    def _image_names(self, name: str) -> list[str]:
        folder = self.root / name
        contents = read_contents(folder)
        self._check_links(folder, contents.links)
        for line in contents.warnings():
            _log.warning("%s: %s", one_line(str(folder)), line)
        return contents.images

    def _check_links(self, folder: Path, links: list[str]) -> None:
        allowed = (self.root.resolve(), folder.resolve())
        for path in (folder / name for name in links):
            target = link_target(path)
            if target is not None and not any(target.is_relative_to(parent) for parent in allowed):
                raise UserError(
                    f"images must be in {self.root.absolute()}, got the link {path} to {target}; replace it by the file"
                )


@cache  # once per process: a command looks for the classes several times
def _mention(line: str) -> None:
    _log.info("%s", line)


def _class_of_folders(classes: Sequence[object] | Mapping[object, object], root: Path) -> dict[str, str]:
    """The class of each folder, as `data.classes` gives it: a list of folders, or a map from folders to classes."""
    if isinstance(classes, str):
        raise UserError(f"data.classes must be two or more different names, label 0 first, got {classes!r}")
    if isinstance(classes, Mapping):
        class_of = {_folder_name(folder, root): _class_name(name) for folder, name in classes.items()}
        if len(set(class_of.values())) < 2 or not all(class_of.values()):
            raise UserError(f"data.classes must map folders to two or more class names, got {dict(classes)}")
    else:
        names = [_folder_name(name, root) for name in classes]
        class_of = {name: name for name in names}
        if len(names) < 2 or len(class_of) < len(names):
            raise UserError(f"data.classes must be two or more different names, label 0 first, got {names}")
    for folder in class_of:
        if not folder or PurePath(folder).name != folder or folder == "..":
            raise UserError(f"data.classes must name folders inside data.root, got {folder!r}")
    return class_of


def _folder_name(item: object, root: Path) -> str:
    """The name of a folder in `data.classes`: YAML reads names such as 0, 007, 1e3, true and null as other values.

    Raises:
        UserError: no folder has a name that is read as this value, or several folders have.
    """
    name = str(item)
    if isinstance(item, str) or (root / name).is_dir():
        return name
    found = [each for each in class_folders(root) if _reads_as(each, item)] if root.is_dir() else []
    if len(found) == 1:
        return found[0]
    if isinstance(item, int) and not isinstance(item, bool) and not found:
        return name  # a missing folder of this name, which is reported with those that exist
    there = f" (folders there: {named(found)})" if found else ""
    raise UserError(
        f"data.classes must name folders as text, got {_as_written(item)}, which is read as another value{there}; "
        f"quote it, as in 'data.classes=[\"{found[0] if found else _as_written(item)}\",...]'"
    )


def _class_name(item: object) -> str:
    """The name of a class in `data.classes`; raises UserError if YAML has read it as true, false or null."""
    if item is None or isinstance(item, bool):
        written = _as_written(item)
        raise UserError(
            f"data.classes must map folders to names as text, got {written}, which is read as another value; quote it, "
            f"as in 'data.classes={{FOLDER: \"{written}\",...}}'"
        )
    return str(item)


def _as_written(item: object) -> str:
    return "null" if item is None else str(item).lower() if isinstance(item, bool) else str(item)


def _reads_as(name: str, item: object) -> bool:
    """Whether YAML or Hydra reads this text as that value."""
    if item is None:
        return name.lower() in {"null", "~", "none"}
    if isinstance(item, bool):
        return name.lower() in ({"true", "yes", "on"} if item else {"false", "no", "off"})
    try:
        return isinstance(item, int | float) and float(name) == item
    except ValueError:
        return False


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
