"""The eyes of all faces: where they are, and what the annotations say about them, as columns."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.decode import decode
from eyegender.data.folder import read_unchanged
from eyegender.data.image_facts import ImageFacts
from eyegender.data.readers import Samples, UnreadableImageError
from eyegender.data.text_columns import TextColumn, sorting_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

SPLITS = ("train", "val", "test")  # by their numbers in list_eval_partition


@dataclass(frozen=True)
class EyeTable:
    """E eyes of F faces, sorted by name.

    Args:
        names: names of the eyes, of shape (E,).
        rows: the face of each eye, int32 of shape (E,).
        boxes: left, top, right and bottom of the crop inside of the image, int32 of shape (E, 4).
        digests: hex hash of the image and the crop, of shape (E,).
        faces: file names of the faces, of shape (F,).
        sha256: hex hash of each file, of shape (F,).
        columns: names of the attributes.
        attributes: their values, int8 of shape (number of attributes, F).
        persons: the number of the person of each face, int64 of shape (F,), or of shape (0,) if unknown.
        splits: position in `SPLITS` of each face, int8 of shape (F,), or of shape (0,) if unknown.
        warnings: what was left out, one line each.
    """

    names: NDArray[np.bytes_]
    rows: NDArray[np.int32]
    boxes: NDArray[np.int32]
    digests: NDArray[np.bytes_]
    faces: NDArray[np.bytes_]
    sha256: NDArray[np.bytes_]
    columns: NDArray[np.str_]
    attributes: NDArray[np.int8]
    persons: NDArray[np.int64]
    splits: NDArray[np.int8]
    warnings: NDArray[np.str_]

    def samples(self, images: Path, errors: Mapping[int, str]) -> Samples:
        """The eyes as samples of two classes.

        Args:
            images: the folder of the faces.
            errors: why a face cannot be read, by its position.
        """
        attributes = {name: self.attributes[k][self.rows] for k, name in enumerate(self.columns.tolist())}
        known = len(self.persons) > 0
        persons = self.persons.astype(f"S{len(str(self.persons.max()))}")[self.rows] if known else None
        splits = np.array(SPLITS, dtype=np.bytes_)[self.splits[self.rows]] if len(self.splits) else None
        return Samples(
            source="celeba",
            names=TextColumn(self.names),
            labels=(attributes["Male"] == 1).astype(np.uint8),
            digests=TextColumn(self.digests),
            open=_EyeOpener(self, images, errors),
            persons=None if persons is None else TextColumn(persons),
            splits=None if splits is None else TextColumn(splits),
            attributes=attributes,
            files=TextColumn(self.sha256[self.rows]),
            sizes=self.boxes[:, 2:] - self.boxes[:, :2],
        )


def crop_eyes(
    names: NDArray[np.bytes_], points: NDArray[np.int64], sizes: NDArray[np.int64], sides: Sequence[str], crop: float
) -> tuple[NDArray[np.bytes_], NDArray[np.int32], NDArray[np.int32]]:
    """Names, faces and boxes of the eyes, sorted by name.

    Args:
        names: file names of the faces, of shape (F,).
        points: x and y of the left and of the right eye as seen, of shape (F, 4).
        sizes: width and height of the images, of shape (F, 2).
        sides: `left`, `right` or both.
        crop: side of the box in multiples of the distance between the eyes.
    """
    side = crop_sides(points, crop)
    all_names, all_boxes = [], []
    for which in sides:
        x, y = points[:, :2].T if which == "left" else points[:, 2:].T
        all_names.append(np.strings.add(names, f"#{which}".encode()))
        all_boxes.append(_squares(x, y, side, *sizes.T))
    joined = np.concatenate(all_names)
    order = sorting_order(joined)
    rows = np.tile(np.arange(len(names), dtype=np.int32), len(sides))[order]
    return joined[order], rows, np.concatenate(all_boxes)[order].astype(np.int32)


def crop_sides(points: NDArray[np.int64], crop: float) -> NDArray[np.int64]:
    """Side of the box in pixels for each face."""
    x0, y0, x1, y1 = points.T
    sides: NDArray[np.int64] = np.rint(crop * np.hypot(x1 - x0, y1 - y0)).astype(np.int64)
    return sides


def crop_digests(sha256: NDArray[np.bytes_], boxes: NDArray[np.int32]) -> NDArray[np.bytes_]:
    """Hex hash of the file and the crop for each eye."""
    hashes = (
        hashlib.sha256(f"{of_file.decode()} {tuple(box)}".encode()).digest()
        for of_file, box in zip(sha256.tolist(), boxes.tolist(), strict=True)
    )
    return np.frombuffer(b"".join(hashes).hex().encode(), dtype="S64")


def _squares(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    side: NDArray[np.int64],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Squares around (x, y), moved into the image if necessary, and shrunk if the image is too small."""
    side = np.minimum(side, np.minimum(width, height))
    left = np.minimum(np.maximum(x - side // 2, 0), width - side)
    top = np.minimum(np.maximum(y - side // 2, 0), height - side)
    return np.stack([left, top, left + side, top + side], axis=1)


class _EyeOpener:
    """Opens eye i. Each thread keeps the last decoded face, because the other eye usually comes next."""

    def __init__(self, table: EyeTable, images: Path, errors: Mapping[int, str]) -> None:
        self._table = table
        self._images = images
        self._errors = errors
        self._last = threading.local()

    def __call__(self, i: int) -> Image.Image:
        row = int(self._table.rows[i])
        if row in self._errors:
            raise UnreadableImageError(self._errors[row])
        if getattr(self._last, "row", None) != row:
            name = TextColumn(self._table.faces)[row]
            facts = ImageFacts(self._table.sha256[row].decode(), 0, 0)
            data = read_unchanged(self._images / name, facts)
            # Landmarks are in stored pixels, so the image must not be rotated by its EXIF orientation.
            self._last.face = decode(data, upright=False)
            self._last.row = row
        face: Image.Image = self._last.face
        left, top, right, bottom = self._table.boxes[i].tolist()
        return face.crop((left, top, right, bottom))
