"""`data=celeba`: eyes cropped out of CelebA's aligned faces, in torchvision's layout or Kaggle's."""

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
from eyegender.data.decode import decode
from eyegender.data.folder import is_folder, link_target, read_unchanged
from eyegender.data.picture_facts import PictureFacts, picture_facts
from eyegender.data.samples import BadPictureError, Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Eyes = Literal["both", "left", "right"]
_SIDES: dict[str, tuple[str, ...]] = {"both": ("left", "right"), "left": ("left",), "right": ("right",)}
_PARTS = ("train", "val", "test")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Eye:
    name: str
    row: int  # in the annotations
    box: tuple[int, int, int, int]  # left, top, right, bottom; inside the picture


class CelebaReader:
    """One or both eyes of each face, cut out as a square around the landmark; the label is the attribute `Male`.

    Expects `img_align_celeba/` (or, as Kaggle packs it, that folder inside itself) beside `list_attr_celeba` and
    `list_landmarks_align_celeba`, each `.txt` or `.csv`. `identity_CelebA` tells persons and `list_eval_partition` the
    official partition, where they are there.

    Args:
        root: that folder, or the one above it that holds it as `celeba/`.
        eyes: `both`, or the `left` or `right` one as seen in the picture.
        crop: the square's side as a multiple of the distance between the eyes, above 0.
        download: fetch what is missing with torchvision's downloader, into `root/celeba`.
        on_bad: `skip` leaves out faces whose picture is missing or whose eyes lie outside of it or are swapped.
        cache: where content hashes are remembered, see `cache_folder`.
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
        """Raises UserError where the folder of the pictures is missing and is not to be fetched."""
        if not self.download:
            _find(self.root)

    def read(self) -> Samples:
        if self.download:
            _download(self.root)
        home, pictures = _find(self.root)
        attributes = _table(home, "list_attr_celeba", 40, headed=True)
        landmarks = _table(home, "list_landmarks_align_celeba", 10, headed=True)
        if attributes is None or landmarks is None:
            missing = "list_attr_celeba" if attributes is None else "list_landmarks_align_celeba"
            raise UserError(f"CelebA needs {missing}.txt or .csv in {home.absolute()}, got neither; add it there")
        check_attributes(attributes)
        identity = _table(home, "identity_CelebA", 1, headed=False)
        if identity is not None:
            identity.refuse(identity.values < 0, "a person's number, 0 or more, for each picture")
        partition = _table(home, "list_eval_partition", 1, headed=False)
        names = attributes.names
        present = self._present(pictures, names, attributes.path)
        points = _aligned(landmarks, names)[:, eye_columns(landmarks)]
        facts = dict(zip(present, picture_facts([pictures / names[row] for row in present], self.cache), strict=True))
        eyes = self._eyes(names, points, facts, landmarks.path)
        rows = np.array([eye.row for eye in eyes], dtype=np.int64)
        male = attributes.column("Male")[rows] == 1
        self._check_counts(male)
        persons = None if identity is None else _aligned(identity, names)[rows, 0]
        if partition is not None:
            partition.refuse((partition.values < 0) | (partition.values > 2), "0, 1 or 2 (train, val, test)")
        parts = None if partition is None else _aligned(partition, names)[rows, 0]
        return Samples(
            source="celeba",
            names=tuple(eye.name for eye in eyes),
            labels=male.astype(np.uint8),
            digests=tuple(_digest(facts[eye.row].sha256, eye.box) for eye in eyes),
            open=_Opener(pictures, names, facts, eyes),
            persons=None if persons is None else tuple(str(person) for person in persons),
            parts=None if parts is None else tuple(_PARTS[part] for part in parts),
            attributes={column: attributes.values[rows, k].astype(np.int8)
                        for k, column in enumerate(attributes.columns)},
            files=tuple(facts[eye.row].sha256 for eye in eyes),
            sizes=np.array([(eye.box[2] - eye.box[0], eye.box[3] - eye.box[1]) for eye in eyes], dtype=np.int32),
        )  # fmt: skip

    def _present(self, pictures: Path, names: tuple[str, ...], source: Path) -> list[int]:
        """Rows whose picture is there."""
        listed = _listing(pictures)
        missing = [name for name in names if name not in listed]
        if missing and self.on_bad == "error":
            raise UserError(
                f"every picture that {source.name} names must be in {pictures}, "
                f"got {len(missing)} of {len(names)} missing ({missing[0]} first); add them or set data.on_bad=skip",
                tuple(missing),
            )
        if missing:
            _log.warning("%s names %d pictures that are not there; left out", source.name, len(missing))
        return [row for row, name in enumerate(names) if name in listed]

    def _eyes(
        self, names: tuple[str, ...], points: NDArray[np.int64], facts: dict[int, PictureFacts], source: Path
    ) -> list[_Eye]:
        eyes: list[_Eye] = []
        outside: list[str] = []
        for row, fact in facts.items():
            x0, y0, x1, y1 = (int(value) for value in points[row])
            side = round(self.crop * float(np.hypot(x1 - x0, y1 - y0)))
            # A picture whose header is unreadable is judged when it is opened.
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
                f"{source} must place both eyes inside the picture, the left one (as seen) apart from and left of the "
                f"right one, got {len(outside)} of {len(facts)} that it does not ({outside[0]}); repair the lines or "
                "set data.on_bad=skip",
                tuple(outside),
            )
        if outside:
            _log.warning("%s: %d faces have eyes outside the picture or swapped; left out", source.name, len(outside))
        return sorted(eyes, key=lambda eye: eye.name)

    def _check_counts(self, male: NDArray[np.bool_]) -> None:
        for name, count in (("female", int(np.sum(~male))), ("male", int(np.sum(male)))):
            if count < 2:
                raise UserError(
                    f"each class needs two pictures or more, got {count} {name} in {self.root.absolute()}; add pictures"
                )


class _Opener:
    """Opens eye i; the face it was cut from is kept per thread, for the other eye usually comes next."""

    def __init__(
        self, pictures: Path, names: tuple[str, ...], facts: dict[int, PictureFacts], eyes: list[_Eye]
    ) -> None:
        self._pictures = pictures
        self._names = names
        self._facts = facts
        self._eyes = eyes
        self._last = threading.local()

    def __call__(self, i: int) -> Image.Image:
        eye = self._eyes[i]
        fact = self._facts[eye.row]
        if fact.error:
            raise BadPictureError(fact.error)
        if getattr(self._last, "row", None) != eye.row:
            data = read_unchanged(self._pictures / self._names[eye.row], fact)
            # Landmarks count pixels as they are stored, so an EXIF orientation must not turn them.
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
        except Exception as error:  # whatever the network, the quota page or a missing gdown comes up with
            failed.append(error)

    # Beside this thread, so that Ctrl-C need not wait for a gigabyte.
    fetching = threading.Thread(target=fetch, name="CelebA", daemon=True)
    fetching.start()
    while fetching.is_alive():
        fetching.join(0.2)
        check_stop()
    if failed:
        reason = " ".join(str(failed[0]).split())[:200]
        raise UserError(
            f"data.download=true must be able to fetch CelebA into {home.absolute()}, got: {reason}; "
            "fetch it by hand, put it there and set data.download=false"
        ) from failed[0]


def _find(root: Path) -> tuple[Path, Path]:
    """The folder of the annotations and the folder of the pictures."""
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
            f"{table.path} must name every picture that list_attr_celeba names, got {len(missing)} missing "
            f"({missing[0]} first); download it again",
            tuple(missing),
        )
    return table.values[[row_of[name] for name in names]]


def _listing(pictures: Path) -> frozenset[str]:
    """Names of what lies in the folder, folders aside.

    Raises:
        UserError: a link leads out of it.
    """
    inside = pictures.resolve()
    names = []
    try:
        with os.scandir(pictures) as entries:
            for entry in entries:
                target = link_target(Path(entry.path))
                if target is not None and not target.is_relative_to(inside):
                    raise UserError(
                        f"pictures must lie in {pictures}, got the link {entry.name} to {target}; "
                        "replace it by the file"
                    )
                if not is_folder(entry):
                    names.append(entry.name)
    except OSError as error:
        raise UserError(f"{pictures} must be readable, got {error.strerror}; allow reading") from error
    return frozenset(names)


def _square(x: int, y: int, side: int, width: int, height: int) -> tuple[int, int, int, int]:
    """A square around (x, y), moved (and in a tiny picture shrunk) to lie inside."""
    side = min(side, width, height)
    left = min(max(x - side // 2, 0), width - side)
    top = min(max(y - side // 2, 0), height - side)
    return left, top, left + side, top + side


def _digest(sha256: str, box: tuple[int, int, int, int]) -> str:
    return hashlib.sha256(f"{sha256} {box}".encode()).hexdigest()
