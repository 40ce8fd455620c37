"""Crops both eyes out of images of faces, as the CelebA reader does, around detected or given eye positions.

Detection uses OpenCV's Haar cascades: opencv-python-headless 4 contains them, and they need no network. The
alternatives contain no model: mediapipe 1.2 and dlib download theirs, and OpenCV 5 removed the cascades.
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
MAX_COORDINATE = 1 << 16
# Images are resized to this longer side for the detection, small ones up to three times: the cascades miss small eyes
# and are slow on large images.
DETECTION_SIDE, MAX_SCALE = 640, 3.0


@dataclass(frozen=True)
class EyePositions:
    """Centers of both eyes in pixels; left and right as seen in the image."""

    left: tuple[float, float]
    right: tuple[float, float]

    def crop(self, image: Image.Image, width: float) -> dict[str, Image.Image]:
        """Crop a square around each eye, `width` eye distances wide and moved to lie inside the image."""
        distance = float(np.hypot(self.left[0] - self.right[0], self.left[1] - self.right[1]))
        side = min(max(round(width * distance), 2), *image.size)
        return {"left": image.crop(_square(*self.left, side, image.size)),
                "right": image.crop(_square(*self.right, side, image.size))}  # fmt: skip


class EyeTable:
    """Crops eyes at the positions in a table.

    The path of a row is relative to the working directory or to the folder of the table. If it is only a file name, and
    neither folder has a file of that name, the row belongs to the only image of that name, in whatever folder.

    Args:
        table: path of the table.
        positions: eye positions by path, as the table spells it.
        width: width of a crop in multiples of the distance between the eyes.

    Raises:
        UserError: two rows belong to the same image.
    """

    def __init__(self, table: Path, positions: Mapping[str, EyePositions], width: float) -> None:
        self.table = table
        self.positions = positions
        self.width = width
        self._row_of: dict[str, str] = {}
        for name in positions:
            for path in {os.path.abspath(name), os.path.abspath(table.parent / name)}:  # noqa: PTH100 - follows no link
                if (other := self._row_of.setdefault(path, name)) != name:
                    raise UserError(f"eyes: {table} must have one row per image, got {other} and {name}; remove one")

    def check(self, paths: Sequence[Path]) -> None:
        """Raises UserError if the row of an image is ambiguous, or if no image has a row."""
        names = Counter(path.name for path in paths)
        elsewhere = {Path(name).name: name for name in self.positions}
        missing = [path for path in paths if self._row(path) is None]
        for path in paths:
            row = self._row(path)
            if row is None and path.name in elsewhere:
                raise UserError(
                    f"eyes: {self.table} must name images by their paths, got {elsewhere[path.name]} for the image "
                    f"{path}; write that path"
                )
            if row == path.name and names[path.name] > 1:
                raise UserError(
                    f"eyes: {self.table} must name images by their paths if several have the same file name, got {row} "
                    f"for {names[path.name]} images ({path} first); write their paths"
                )
        if len(missing) == len(paths):
            raise UserError(f"eyes: {self.table} must have a row for each image, got none for {paths[0]}; add it")
        if missing:
            log.warning(
                "%s has no row for %d of %d images: they get no prediction", self.table.name, len(missing), len(paths)
            )

    def __call__(self, path: Path, image: Image.Image) -> dict[str, Image.Image]:
        row = self._row(path)
        if row is None or not _inside(self.positions[row], image.size):
            return {}
        return self.positions[row].crop(image, self.width)

    def _row(self, path: Path) -> str | None:
        row = self._row_of.get(os.path.abspath(path))  # noqa: PTH100 - follows no link
        if row is not None or path.name not in self.positions:
            return row
        # If one of the two folders has a file of that name, the row belongs to that file.
        other = any(os.path.lexists(folder / path.name) for folder in (Path.cwd(), self.table.parent))
        return None if other else path.name


class EyeDetector:
    """Crops the eyes of the largest face that OpenCV detects.

    Args:
        width: width of a crop in multiples of the distance between the eyes.

    Raises:
        UserError: OpenCV is not installed, or lacks a cascade.
    """

    def __init__(self, width: float) -> None:
        self.width = width
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
        eyes = self.detect(image)
        return {} if eyes is None else eyes.crop(image, self.width)

    def detect(self, image: Image.Image) -> EyePositions | None:
        """The positions of the eyes; None if no face with two eyes is detected."""
        scale = min(MAX_SCALE, DETECTION_SIDE / max(image.size))
        resized = image.convert("L").resize((round(image.width * scale), round(image.height * scale)))
        gray = self._cv2.equalizeHist(np.asarray(resized))
        faces = self._face.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=4, minSize=(40, 40))
        for x, y, width, height in sorted(faces, key=lambda box: -int(box[2]) * int(box[3])):
            # In the lower half of a face, nostrils and mouths are mistaken for eyes.
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


def read_eye_table(path: Path, width: float) -> EyeTable:
    """Read a CSV file with the columns path, left_x, left_y, right_x, right_y, in pixels.

    Args:
        path: path of the table.
        width: width of a crop in multiples of the distance between the eyes.

    Raises:
        UserError: the file cannot be read or lacks a column, a value is not a number, two eyes are swapped, or an image
            has two rows; the message gives the line.
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
                invalid = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
                if invalid or not row["path"]:
                    raise UserError(
                        f"eyes: {path}, line {line}, must hold a path and four numbers, got "
                        f"{(invalid or [row['path']])[0]!r}; correct it"
                    )
                if None in row:  # for example because of a comma in the path
                    raise UserError(f"eyes: {path}, line {line}, must have {len(columns)} cells, got more; correct it")
                lx, ly, rx, ry = map(float, cells)
                if 0 <= rx <= lx < MAX_COORDINATE:
                    raise UserError(
                        f"eyes: {path}, line {line}, must have the left eye (as seen) left of the right one, got x of "
                        f"{lx:g} and {rx:g}; are they swapped?"
                    )
                if row["path"] in positions:
                    raise UserError(f"eyes: {path}, line {line}, must be of another image, got {row['path']} again")
                positions[row["path"]] = EyePositions((lx, ly), (rx, ry))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"eyes: cannot read {path} ({error}); correct eyes=") from error
    return EyeTable(path, positions, width)


def _pair(
    centers: list[tuple[float, float]], face_left: float, face_width: float
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The most horizontal pair with one eye in each half of the face and a plausible distance."""
    middle = face_left + face_width / 2
    pairs = [
        (left, right)
        for left in centers if left[0] < middle
        for right in centers if right[0] >= middle and 0.25 * face_width < right[0] - left[0] < 0.7 * face_width
    ]  # fmt: skip
    return min(pairs, key=lambda pair: abs(pair[0][1] - pair[1][1]), default=None)


def _inside(eyes: EyePositions, size: tuple[int, int]) -> bool:
    return all(0 <= x < size[0] and 0 <= y < size[1] for x, y in (eyes.left, eyes.right)) and eyes.left != eyes.right


def _square(x: float, y: float, side: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left = min(max(round(x) - side // 2, 0), size[0] - side)
    top = min(max(round(y) - side // 2, 0), size[1] - side)
    return left, top, left + side, top + side
