"""Cuts both eyes out of face pictures, as the CelebA reader does, around found or given eye positions.

Found by OpenCV's Haar cascades, which opencv-python-headless 4 ships inside its package and which run offline. Others
were looked at and ship no model: mediapipe 1.2 (downloads it), OpenCV 5 (cascades left the package), dlib (its landmark
file is a download of its own).
"""

from __future__ import annotations

import csv
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

log = logging.getLogger(__name__)

EXTRA = "eyegender[faces]"
COLUMNS = ("path", "left_x", "left_y", "right_x", "right_y")
# float() would also take 1_0 and the digits of other alphabets.
_NUMBER = re.compile(r"\s*[+-]?(nan|inf|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)\s*", re.IGNORECASE)
MOST_PIXELS = 1 << 16
# Pictures are searched at this longer side, small ones enlarged up to three times: the cascades miss small eyes, and in
# large pictures take long.
SEARCHED_SIDE, MOST_ENLARGED = 640, 3.0


@dataclass(frozen=True)
class EyePositions:
    """Centres in pixels; left and right as seen in the picture."""

    left: tuple[float, float]
    right: tuple[float, float]

    def cut(self, image: Image.Image, crop: float) -> dict[str, Image.Image]:
        """A square around each eye, `crop` distances between the eyes wide, moved to lie inside the picture."""
        distance = float(np.hypot(self.left[0] - self.right[0], self.left[1] - self.right[1]))
        side = min(max(round(crop * distance), 2), *image.size)
        return {"left": image.crop(_square(*self.left, side, image.size)),
                "right": image.crop(_square(*self.right, side, image.size))}  # fmt: skip


class GivenEyes:
    """Eyes at the positions that a table states.

    A row belongs to the picture of its path, taken from the working directory or from the table's folder. A row that is
    a mere file name, and of no file there, belongs to the one picture of that name, wherever it lies.

    Args:
        table: the table's file.
        positions: by path as written in the table.
        crop: side of the square in distances between the eyes.

    Raises:
        UserError: two rows are of one picture.
    """

    def __init__(self, table: Path, positions: Mapping[str, EyePositions], crop: float) -> None:
        self.table = table
        self.positions = positions
        self.crop = crop
        self._row_of: dict[str, str] = {}
        for name in positions:
            for place in {os.path.abspath(name), os.path.abspath(table.parent / name)}:  # noqa: PTH100 - follows no link
                if (other := self._row_of.setdefault(place, name)) != name:
                    raise UserError(f"eyes: {table} must have one row per picture, got {other} and {name}; remove one")

    def check(self, paths: Sequence[Path]) -> None:
        """Raises UserError where it is not certain which row is a picture's, or where no picture has one."""
        names = Counter(path.name for path in paths)
        elsewhere = {Path(name).name: name for name in self.positions}
        missing = [path for path in paths if self._row(path) is None]
        for path in paths:
            row = self._row(path)
            if row is None and path.name in elsewhere:
                raise UserError(
                    f"eyes: {self.table} must name pictures by their paths, got {elsewhere[path.name]} for the picture "
                    f"{path}; write that path"
                )
            if row == path.name and names[path.name] > 1:
                raise UserError(
                    f"eyes: {self.table} must tell pictures of one name apart by their paths, got {row} for "
                    f"{names[path.name]} pictures ({path} first); write their paths"
                )
        if len(missing) == len(paths):
            raise UserError(f"eyes: {self.table} must have a row for each picture, got none for {paths[0]}; add it")
        if missing:
            log.warning("%s has no row for %d of %d pictures: no eyes there", self.table.name, len(missing), len(paths))

    def __call__(self, path: Path, image: Image.Image) -> dict[str, Image.Image]:
        row = self._row(path)
        if row is None or not _inside(self.positions[row], image.size):
            return {}
        return self.positions[row].cut(image, self.crop)

    def _row(self, path: Path) -> str | None:
        row = self._row_of.get(os.path.abspath(path))  # noqa: PTH100 - follows no link
        if row is not None or path.name not in self.positions:
            return row
        # A mere name is that of another picture where one lies at that path.
        elsewhere = any(os.path.lexists(place / path.name) for place in (Path.cwd(), self.table.parent))
        return None if elsewhere else path.name


class FoundEyes:
    """Eyes in the upper half of the largest face that OpenCV finds.

    Args:
        crop: side of the square in distances between the eyes.

    Raises:
        UserError: OpenCV, or a cascade in it, is missing.
    """

    def __init__(self, crop: float) -> None:
        self.crop = crop
        try:
            import cv2
        except ImportError as error:
            raise UserError(
                f"faces=true needs OpenCV; pip install '{EXTRA}', or give eye positions by eyes=FILE.csv"
            ) from error
        self._cv2: Any = cv2
        self._face = self._cascade("haarcascade_frontalface_default.xml")
        self._eye = self._cascade("haarcascade_eye.xml")

    def __call__(self, path: Path, image: Image.Image) -> dict[str, Image.Image]:  # noqa: ARG002
        found = self.find(image)
        return {} if found is None else found.cut(image, self.crop)

    def find(self, image: Image.Image) -> EyePositions | None:
        """Where the eyes are; None where no face with two eyes is found."""
        scale = min(MOST_ENLARGED, SEARCHED_SIDE / max(image.size))
        searched = image.convert("L").resize((round(image.width * scale), round(image.height * scale)))
        gray = self._cv2.equalizeHist(np.asarray(searched))
        faces = self._face.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=4, minSize=(40, 40))
        for x, y, width, height in sorted(faces, key=lambda box: -int(box[2]) * int(box[3])):
            # Below the middle of a face, nostrils and mouths are taken for eyes.
            upper = gray[y : y + round(0.6 * height), x : x + width]
            smallest = max(8, round(0.12 * width))
            eyes = self._eye.detectMultiScale(upper, scaleFactor=1.05, minNeighbors=4, minSize=(smallest, smallest))
            pair = _pair(
                [(float(x + ex + ew / 2), float(y + ey + eh / 2)) for ex, ey, ew, eh in eyes], float(x), float(width)
            )
            if pair is not None:
                left, right = pair
                return EyePositions((left[0] / scale, left[1] / scale), (right[0] / scale, right[1] / scale))
        return None

    def _cascade(self, name: str) -> Any:
        cv2 = self._cv2
        path = Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / name
        if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
            raise UserError(
                f"faces=true needs an OpenCV that ships {name}, got {cv2.__version__}; pip install '{EXTRA}', or give "
                "eye positions by eyes=FILE.csv"
            )
        return cv2.CascadeClassifier(str(path))


def read_eye_positions(path: Path, crop: float) -> GivenEyes:
    """From a CSV file with the columns path, left_x, left_y, right_x, right_y, in pixels.

    Raises:
        UserError: the file is missing, lacks a column, a value is no number, eyes are swapped or a picture comes twice;
            names the line.
    """
    positions: dict[str, EyePositions] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or ()
            missing = [name for name in COLUMNS if name not in columns]
            twice = [name for name in COLUMNS if columns.count(name) > 1]
            if twice:
                raise UserError(f"eyes: {path} must name each column once, got {twice[0]} twice; remove one")
            if missing:
                raise UserError(f"eyes: {path} must have the columns {', '.join(COLUMNS)}, got no {missing[0]}; add it")
            for row in table:
                line = table.line_num
                cells = [row[name] or "" for name in COLUMNS[1:]]
                wrong = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
                if wrong or not row["path"]:
                    raise UserError(
                        f"eyes: {path}, line {line}, must hold a path and four numbers, got "
                        f"{(wrong or [row['path']])[0]!r}; correct it"
                    )
                if None in row:  # a comma in the path, say
                    raise UserError(f"eyes: {path}, line {line}, must have {len(columns)} cells, got more; correct it")
                lx, ly, rx, ry = map(float, cells)
                if 0 <= rx <= lx < MOST_PIXELS:
                    raise UserError(
                        f"eyes: {path}, line {line}, must have the left eye (as seen) left of the right one, got x of "
                        f"{lx:g} and {rx:g}; are they swapped?"
                    )
                if row["path"] in positions:
                    raise UserError(f"eyes: {path}, line {line}, must be of another picture, got {row['path']} again")
                positions[row["path"]] = EyePositions((lx, ly), (rx, ry))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"eyes: cannot read {path} ({error}); correct eyes=") from error
    return GivenEyes(path, positions, crop)


def _pair(
    centres: list[tuple[float, float]], face_left: float, face_width: float
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The most level pair with one eye in each half of the face and a plausible distance."""
    middle = face_left + face_width / 2
    pairs = [
        (left, right)
        for left in centres if left[0] < middle
        for right in centres if right[0] >= middle and 0.25 * face_width < right[0] - left[0] < 0.7 * face_width
    ]  # fmt: skip
    return min(pairs, key=lambda pair: abs(pair[0][1] - pair[1][1]), default=None)


def _inside(found: EyePositions, size: tuple[int, int]) -> bool:
    return (
        all(0 <= x < size[0] and 0 <= y < size[1] for x, y in (found.left, found.right)) and found.left != found.right
    )


def _square(x: float, y: float, side: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left = min(max(round(x) - side // 2, 0), size[0] - side)
    top = min(max(round(y) - side // 2, 0), size[1] - side)
    return left, top, left + side, top + side
