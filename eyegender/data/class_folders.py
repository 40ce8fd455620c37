"""What a class folder holds: images, other files, and images in its subfolders."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError, one_line
from eyegender.data.decode import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Images that are not read. A folder of them is one that the user takes for a class, a folder of text files is not.
_OTHER_IMAGES = frozenset({
    ".arw", ".avif", ".cr2", ".dcm", ".dng", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jxl", ".nef",
    ".pgm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff",
})  # fmt: skip
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # of files without a suffix
_NO_CLASSES = {"__MACOSX"}  # besides hidden folders
_MOST_NAMED = 20  # folders in a message
_MOST_SUFFIXES = 5


@dataclass(frozen=True)
class FolderContents:
    """The files of a class folder, hidden ones left out.

    Args:
        images: names of the files that are read.
        links: which of them are links.
        ignored: how many files are not read, by suffix in lower case.
        other_images: how many of these are images in another format.
        below: how many images are in subfolders, by the path of the subfolder in the folder.
    """

    images: list[str]
    links: list[str]
    ignored: Counter[str]
    other_images: int
    below: Counter[str]

    def unread(self) -> str:
        """The images that are not read, as a phrase; empty if there are none."""
        return " and ".join(filter(None, [
            f"files in other formats ({self._suffixes()})" if self.other_images else "",
            f"{images_of(self.below.total())} in subfolders ({named(sorted(self.below))})" if self.below else "",
        ]))  # fmt: skip

    def warnings(self) -> list[str]:
        """What a training should know about files that it does not read, one line each."""
        lines = []
        if count := self.ignored.total():
            lines.append(
                f"{count} {'file is' if count == 1 else 'files are'} ignored ({self._suffixes()}); images end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        if count := self.below.total():
            lines.append(
                f"{images_of(count)} in subfolders {'is' if count == 1 else 'are'} not read "
                f"({named(sorted(self.below))}); move them into the class folder"
            )
        return lines

    def _suffixes(self) -> str:
        most = sorted(self.ignored.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{count} {one_line(suffix[:12]) or 'without a suffix'}" for suffix, count in most[:_MOST_SUFFIXES]]
        rest = sum(count for _, count in most[_MOST_SUFFIXES:])
        return ", ".join(shown) + (f" and {rest} more" if rest else "")


def read_contents(folder: Path) -> FolderContents:
    """The contents of a class folder; its subfolders are searched for images, links to folders are not followed.

    Raises:
        UserError: it cannot be read.
    """
    images: list[str] = []
    links: list[str] = []
    ignored: Counter[str] = Counter()
    below: Counter[str] = Counter()
    other_images = 0
    for entry in _entries(folder):
        if entry.name[0] == ".":
            continue
        if is_folder(entry):
            if not entry.is_symlink() and entry.name not in _NO_CLASSES:
                below.update(_images_below(Path(entry.path), folder))
        elif (suffix := Path(entry.name).suffix.lower()) in SUFFIXES:
            images.append(entry.name)
            if entry.is_symlink():
                links.append(entry.name)
        else:
            ignored[suffix] += 1
            other_images += _is_other_image(entry)
    return FolderContents(images, links, ignored, other_images, below)


def image_names(folder: Path) -> Iterator[str]:
    """The names of the files in the folder that are images by their suffix.

    Raises:
        UserError: it cannot be read.
    """
    for entry in _entries(folder):
        if entry.name[0] != "." and Path(entry.name).suffix.lower() in SUFFIXES and not is_folder(entry):
            yield entry.name


def has_image(folder: Path) -> bool:
    """Whether a file in the folder has the suffix of an image; true if that cannot be known, which reading reports."""
    try:
        return next(image_names(folder), None) is not None
    except UserError:
        return True


def class_folders(root: Path) -> list[str]:
    """The names of the folders that can be classes, sorted."""
    return sorted(path.name for path in folders_in(root) if path.name[0] != "." and path.name not in _NO_CLASSES)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders included.

    Raises:
        UserError: it cannot be read.
    """
    return [Path(entry.path) for entry in _entries(folder) if is_folder(entry)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. A link to itself is not; opening it reports the error."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def link_target(path: Path) -> Path | None:
    """The final target of a link, as far as it can be resolved; None if `path` is no link, or a broken one."""
    if not path.is_symlink():
        return None
    try:
        path.stat()
    except FileNotFoundError:
        return None  # it leads nowhere, so nothing can be read through it; reading reports it as unreadable
    except OSError:
        pass
    return Path(os.path.realpath(path))  # resolve() raises on a link to itself


def images_of(count: int) -> str:
    """A number of images in words."""
    return {0: "no image", 1: "one image", 2: "two images"}.get(count, f"{count} images")


def named(names: Sequence[str], between: str = ", ") -> str:
    """The first names of a list, in one line."""
    shown = between.join(one_line(name) for name in names[:_MOST_NAMED]) or "none"
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"class folder must be readable, got {folder} ({error.strerror}); allow reading") from error


def _images_below(subfolder: Path, folder: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for parent, names, files in os.walk(subfolder):
        names[:] = [name for name in names if name[0] != "." and name not in _NO_CLASSES]
        if count := sum(name[0] != "." and Path(name).suffix.lower() in SUFFIXES | _OTHER_IMAGES for name in files):
            found[Path(parent).relative_to(folder).as_posix()] = count
    return found


def _is_other_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is an image in a format that is not read, or one whose name does not say so."""
    suffix = Path(entry.name).suffix.lower()
    if suffix:
        return suffix in _OTHER_IMAGES
    try:
        if not entry.is_file():  # a pipe would wait
            return False
        with Path(entry.path).open("rb") as file:
            return file.read(4).startswith(_SIGNATURES)
    except OSError:
        return False
