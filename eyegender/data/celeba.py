"""`data=celeba`: eyes cropped from CelebA's aligned faces, in torchvision's or Kaggle's layout."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from eyegender.core.errors import UserError
from eyegender.core.progress import check_stop
from eyegender.data.annotations import Annotations, check_attributes, eye_columns, read_annotations
from eyegender.data.class_folders import is_folder, link_target
from eyegender.data.decode import decode
from eyegender.data.folder import read_unchanged
from eyegender.data.image_facts import ImageFacts, image_facts
from eyegender.data.readers import Samples, UnreadableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Eyes = Literal["both", "left", "right"]
_SIDES: dict[str, tuple[str, ...]] = {"both": ("left", "right"), "left": ("left",), "right": ("right",)}
_SPLITS = ("train", "val", "test")  # by their numbers in list_eval_partition
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Eye:
    name: str
    row: int  # in the annotations
    box: tuple[int, int, int, int]  # left, top, right, bottom; inside the image


class CelebaReader:
    """Reads one or both eyes of each face, cropped to a square around the landmark; the label is the attribute `Male`.

    Expects `img_align_celeba/` (as in Kaggle's archive, possibly inside a folder of the same name) next to
    `list_attr_celeba` and `list_landmarks_align_celeba`, each `.txt` or `.csv`. `identity_CelebA` (persons) and
    `list_eval_partition` (official partition) are optional.

    Args:
        root: the folder with these files, or the parent of that folder if it is named `celeba/`.
        eyes: `both`, or the `left` or `right` eye as seen in the image.
        crop: side of the square in multiples of the distance between the eyes, above 0 and at most 4.
        download: download missing files with torchvision into `root/celeba`.
        on_bad: `skip` leaves out faces whose image is missing or whose eyes are outside of it or swapped.
        cache: the cache folder for content hashes, see `cache_folder`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        eyes: Eyes = "both",
        crop: float = 1.0,
        download: bool = False,
        on_bad: Literal["error", "skip"] = "error",
        cache: str | Path | None = None,
    ) -> None:
        if eyes not in _SIDES:
            raise UserError(f"data.eyes must be one of {', '.join(_SIDES)}, got {eyes!r}")
        if not 0 < crop <= 4:
            raise UserError(f"data.crop must be above 0 and at most 4 distances between the eyes, got {crop}")
        self.root = Path(root).expanduser()
        self.eyes = eyes
        self.crop = crop
        self.download = download
        self.on_bad = on_bad
        self.cache = cache

    def check(self) -> None:
        """Raises UserError if the folder of the images does not exist and is not downloaded."""
        if not self.download:
            _find(self.root)

    def read(self) -> Samples:
        if self.download:
            _download(self.root)
        home, images = _find(self.root)
        attributes = _table(home, "list_attr_celeba", 40, headed=True)
        landmarks = _table(home, "list_landmarks_align_celeba", 10, headed=True)
        if attributes is None or landmarks is None:
            missing = "list_attr_celeba" if attributes is None else "list_landmarks_align_celeba"
            raise UserError(f"CelebA needs {missing}.txt or .csv in {home.absolute()}, got neither; add it there")
        check_attributes(attributes)
        identity = _table(home, "identity_CelebA", 1, headed=False)
        if identity is not None:
            identity.refuse(identity.values < 0, "a person's number, 0 or more, for each image")
        partition = _table(home, "list_eval_partition", 1, headed=False)
        names = attributes.names
        present = self._present(images, names, attributes.path)
        points = _aligned(landmarks, names)[:, eye_columns(landmarks)]
        facts = dict(zip(present, image_facts([images / names[row] for row in present], self.cache), strict=True))
        eyes = self._eyes(names, points, facts, landmarks.path)
        rows = np.array([eye.row for eye in eyes], dtype=np.int64)
        male = attributes.column("Male")[rows] == 1
        self._check_counts(male)
        persons = None if identity is None else _aligned(identity, names)[rows, 0]
        if partition is not None:
            partition.refuse((partition.values < 0) | (partition.values > 2), "0, 1 or 2 (train, val, test)")
        splits = None if partition is None else _aligned(partition, names)[rows, 0]
        return Samples(
            source="celeba",
            names=tuple(eye.name for eye in eyes),
            labels=male.astype(np.uint8),
            digests=tuple(_digest(facts[eye.row].sha256, eye.box) for eye in eyes),
            open=_EyeOpener(images, names, facts, eyes),
            persons=None if persons is None else tuple(str(person) for person in persons),
            splits=None if splits is None else tuple(_SPLITS[split] for split in splits),
            attributes={column: attributes.values[rows, k].astype(np.int8)
                        for k, column in enumerate(attributes.columns)},
            files=tuple(facts[eye.row].sha256 for eye in eyes),
            sizes=np.array([(eye.box[2] - eye.box[0], eye.box[3] - eye.box[1]) for eye in eyes], dtype=np.int32),
        )  # fmt: skip

    def _present(self, images: Path, names: tuple[str, ...], source: Path) -> list[int]:
        """Rows whose image file exists."""
        listed = _listing(images)
        missing = [name for name in names if name not in listed]
        if missing and self.on_bad == "error":
            raise UserError(
                f"every image that {source.name} names must be in {images}, "
                f"got {len(missing)} of {len(names)} missing ({missing[0]} first); add them or set data.on_bad=skip",
                tuple(missing),
            )
        if missing:
            _log.warning("%s names %d images that do not exist; they are left out", source.name, len(missing))
        return [row for row, name in enumerate(names) if name in listed]

    def _eyes(
        self, names: tuple[str, ...], points: NDArray[np.int64], facts: dict[int, ImageFacts], source: Path
    ) -> list[_Eye]:
        eyes: list[_Eye] = []
        outside: list[str] = []
        for row, fact in facts.items():
            x0, y0, x1, y1 = (int(value) for value in points[row])
            side = round(self.crop * float(np.hypot(x1 - x0, y1 - y0)))
            # An image with an unreadable header is checked when it is opened.
            width, height = (fact.width, fact.height) if fact.width else (1 << 16, 1 << 16)
            inside = 0 <= x0 < width and 0 <= x1 < width and 0 <= y0 < height and 0 <= y1 < height
            if not inside or side < 2 or x0 >= x1:
                outside.append(f"{names[row]}: eyes at ({x0}, {y0}) and ({x1}, {y1}) in {width} x {height} pixels")
                continue
            for which, x, y in (("left", x0, y0), ("right", x1, y1)):
                if which in _SIDES[self.eyes]:
                    eyes.append(_Eye(f"{names[row]}#{which}", row, _square(x, y, side, width, height)))
        if outside and self.on_bad == "error":
            raise UserError(
                f"{source} must place both eyes inside the image, the left one (as seen) apart from and left of the "
                f"right one, got {len(outside)} of {len(facts)} that it does not ({outside[0]}); repair the lines or "
                "set data.on_bad=skip",
                tuple(outside),
            )
        if outside:
            _log.warning(
                "%s: %d faces have eyes outside the image or swapped; they are left out", source.name, len(outside)
            )
        return sorted(eyes, key=lambda eye: eye.name)

    def _check_counts(self, male: NDArray[np.bool_]) -> None:
        for name, count in (("female", int(np.sum(~male))), ("male", int(np.sum(male)))):
            if count < 2:
                raise UserError(
                    f"each class needs two images or more, got {count} {name} in {self.root.absolute()}; add images"
                )


class _EyeOpener:
    """Opens eye i. Each thread keeps the last decoded face, because the other eye usually comes next."""

    def __init__(self, images: Path, names: tuple[str, ...], facts: dict[int, ImageFacts], eyes: list[_Eye]) -> None:
        self._images = images
        self._names = names
        self._facts = facts
        self._eyes = eyes
        self._last = threading.local()

    def __call__(self, i: int) -> Image.Image:
        eye = self._eyes[i]
        fact = self._facts[eye.row]
        if fact.error:
            raise UnreadableImageError(fact.error)
        if getattr(self._last, "row", None) != eye.row:
            data = read_unchanged(self._images / self._names[eye.row], fact)
            # Landmarks are in stored pixels, so the image must not be rotated by its EXIF orientation.
            self._last.face = decode(data, upright=False)
            self._last.row = eye.row
        face: Image.Image = self._last.face
        return face.crop(eye.box)


def _download(root: Path) -> None:
    home = root.parent if root.name == "celeba" else root
    from torchvision.datasets import CelebA

    failed: list[Exception] = []

    def fetch() -> None:
        try:
            home.mkdir(parents=True, exist_ok=True)
            CelebA(str(home), download=True)
        except Exception as error:  # anything from the network, the quota page or a missing gdown
            failed.append(error)

    # In another thread, so that Ctrl-C does not wait for a gigabyte.
    download = threading.Thread(target=fetch, name="CelebA", daemon=True)
    download.start()
    while download.is_alive():
        download.join(0.2)
        check_stop()
    if failed:
        reason = " ".join(str(failed[0]).split())[:200]
        raise UserError(
            f"data.download=true must be able to fetch CelebA into {home.absolute()}, got: {reason}; "
            "fetch it by hand, put it there and set data.download=false"
        ) from failed[0]


def _find(root: Path) -> tuple[Path, Path]:
    """The folder of the annotations and the folder of the images."""
    for home in (root, root / "celeba"):
        outer = home / "img_align_celeba"
        if outer.is_dir():
            inner = outer / "img_align_celeba"
            return home, inner if inner.is_dir() else outer
    raise UserError(
        "data.root must be a folder with img_align_celeba/ (or celeba/img_align_celeba/) in it, "
        f"got {root.absolute()}; set data.root, or data.download=true to fetch CelebA there"
    )


def _table(home: Path, stem: str, columns: int, *, headed: bool) -> Annotations | None:
    for suffix in (".txt", ".csv"):
        path = home / f"{stem}{suffix}"
        if path.is_file():
            return read_annotations(path, columns, headed=headed)
    return None


def _aligned(table: Annotations, names: tuple[str, ...]) -> NDArray[np.int64]:
    """The table's values in the order of `names`."""
    if table.names == names:
        return table.values
    row_of = {name: row for row, name in enumerate(table.names)}
    missing = [name for name in names if name not in row_of]
    if missing:
        raise UserError(
            f"{table.path} must name every image that list_attr_celeba names, got {len(missing)} missing "
            f"({missing[0]} first); download it again",
            tuple(missing),
        )
    return table.values[[row_of[name] for name in names]]


def _listing(images: Path) -> frozenset[str]:
    """The names of the files in the folder.

    Raises:
        UserError: a link leads out of the folder.
    """
    resolved = images.resolve()
    names = []
    try:
        with os.scandir(images) as entries:
            for entry in entries:
                target = link_target(Path(entry.path))
                if target is not None and not target.is_relative_to(resolved):
                    raise UserError(
                        f"images must be in {images}, got the link {entry.name} to {target}; replace it by the file"
                    )
                if not is_folder(entry):
                    names.append(entry.name)
    except OSError as error:
        raise UserError(f"{images} must be readable, got {error.strerror}; allow reading") from error
    return frozenset(names)


def _square(x: int, y: int, side: int, width: int, height: int) -> tuple[int, int, int, int]:
    """A square around (x, y), moved into the image if necessary, and shrunk if the image is too small."""
    side = min(side, width, height)
    left = min(max(x - side // 2, 0), width - side)
    top = min(max(y - side // 2, 0), height - side)
    return left, top, left + side, top + side


def _digest(sha256: str, box: tuple[int, int, int, int]) -> str:
    return hashlib.sha256(f"{sha256} {box}".encode()).hexdigest()
