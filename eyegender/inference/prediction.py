"""Predicts image files: finds and decodes them, and writes one row per image or eye as CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.core.progress import show_progress
from eyegender.data.decode import SUFFIXES, decode, read_image_bytes, to_pixels
from eyegender.data.readers import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

    from eyegender.inference.load import LoadedModel

    # From the path and the image of a face to its eyes by name (`left` and `right` as seen in the image), or none.
    EyeCropper = Callable[[Path, Image.Image], dict[str, Image.Image]]

BATCH_SIZE = 256
_LONGEST_SHOWN = 200  # characters of a path in an error
_log = logging.getLogger("eyegender")
ABSTAINED, UNREADABLE, NO_EYES = "abstained", "unreadable", "no eyes"


@dataclass(frozen=True)
class PredictionRow:
    """One row of the output.

    Args:
        path: path of the file as given.
        eye: `left` or `right` as seen in the image of a face; empty if the whole image is an eye.
        probability: probability of label 1, or of more than two classes that of the most likely one; None if there is
            no prediction.
        label: the most likely class; empty if the model abstains or there is no prediction.
        note: the reason why there is no label.
        probabilities: the probability of each class, if there are more than two.
    """

    path: str
    eye: str
    probability: float | None
    label: str
    note: str
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True)
class DecodedFile:
    """An image: its path or, in memory, its name; the decoded image, or the reason why it cannot be read."""

    path: Path
    image: Image.Image | None
    reason: str = ""


def predict(
    model: LoadedModel,
    paths: Sequence[Path | DecodedFile],
    *,
    min_confidence: float,
    crop_eyes: EyeCropper | None = None,
) -> Iterator[list[PredictionRow]]:
    """Yield the rows of the files, batch by batch and in order.

    Args:
        model: the model that predicts.
        paths: paths of the image files, or decoded images.
        min_confidence: the model abstains if the probability of the most likely class is lower; 0..1.
        crop_eyes: crops the eyes out of the image of a face; None if the images are eyes.
    """
    with show_progress("predicting", len(paths)) as advance:
        # Eye positions are in pixels of the stored image, so an EXIF orientation must not rotate a face.
        for batch in decode_batches(paths, upright=crop_eyes is None):
            yield _predict_batch(model, batch, min_confidence, crop_eyes)
            advance(len(batch))


def _predict_batch(
    model: LoadedModel, batch: list[DecodedFile], min_confidence: float, crop_eyes: EyeCropper | None
) -> list[PredictionRow]:
    spec = model.spec
    inputs: list[tuple[DecodedFile, str, Image.Image | None]] = []
    for file in batch:
        if file.image is None or crop_eyes is None:
            inputs.append((file, "", file.image))
        else:
            eyes = crop_eyes(file.path, file.image)
            inputs += [(file, eye, image) for eye, image in eyes.items()] or [(file, "", None)]
    pixels = [to_pixels(image, spec.size, spec.color) for _, _, image in inputs if image is not None]
    probabilities = iter(model.probabilities(np.stack(pixels)).tolist() if pixels else [])
    rows = []
    for file, eye, image in inputs:
        if image is None:
            note = NO_EYES if file.image is not None else f"{UNREADABLE}: {file.reason}"
            rows.append(PredictionRow(str(file.path), eye, None, "", note))
            continue
        found = next(probabilities)
        each = () if spec.outputs == 1 else tuple(round(p, 6) for p in found)
        p = max(found) if each else found
        most_likely = spec.classes[found.index(p) if each else int(p > 0.5)]
        confident = (p if each else max(p, 1 - p)) >= min_confidence  # False for NaN
        label, note = (most_likely, "") if confident else ("", ABSTAINED)
        rows.append(PredictionRow(str(file.path), eye, round(p, 6), label, note, each))
    return rows


def find_image_files(images: Sequence[str]) -> list[Path]:
    """The given files, and all image files in the given folders and below, sorted by name within each folder.

    A subfolder that disappears meanwhile is left out, and so is one that may not be read, with a warning.

    Raises:
        UserError: a path does not exist or cannot be read, or there is no image file at all.
    """
    found: dict[Path, None] = {}
    for given in images:
        try:
            path = Path(given).expanduser()
            if path.is_dir():
                found.update(dict.fromkeys(sorted(_image_files_below(path))))
            elif os.path.lexists(path):
                found[path] = None
            else:
                raise UserError(f"images must exist, got {given}; correct images=")
        except OSError as error:  # such as a name that is too long
            reason = error.strerror or type(error).__name__
            shown = given if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]}..."
            raise UserError(f"images must be readable, got {shown} ({reason}); correct images=") from error
    if not found:
        raise UserError(f"no image ({', '.join(sorted(SUFFIXES))}) in {', '.join(images)}; correct images=")
    return list(found)


def _image_files_below(folder: Path) -> Iterator[Path]:
    """Image files in a folder and below; a broken link is one, too, and its row gives the reason.

    Raises:
        OSError: the folder itself cannot be listed.
    """

    def skip(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        if not isinstance(error, FileNotFoundError):
            reason = error.strerror or type(error).__name__
            _log.warning("%s cannot be listed (%s); its images are left out", one_line(str(error.filename)), reason)

    for inside, _, names in os.walk(folder, onerror=skip):
        for name in names:
            path = Path(inside, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


def decode_batches(paths: Sequence[Path | DecodedFile], *, upright: bool = True) -> Iterator[list[DecodedFile]]:
    """Decode the files in order, `BATCH_SIZE` at a time, and the next batch while the caller processes one.

    Args:
        paths: paths of the image files; what is decoded already stays as it is.
        upright: whether to rotate images by their EXIF orientation.
    """

    def decode_file(path: Path | DecodedFile) -> DecodedFile:
        if isinstance(path, DecodedFile):
            return path
        try:
            return DecodedFile(path, decode(read_image_bytes(path), upright=upright))
        except UnreadableImageError as error:
            return DecodedFile(path, None, str(error))
        except OSError as error:
            return DecodedFile(path, None, error.strerror or type(error).__name__)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        pending = [pool.submit(decode_file, path) for path in paths[:BATCH_SIZE]]
        for start in range(BATCH_SIZE, len(paths) + BATCH_SIZE, BATCH_SIZE):
            batch, pending = pending, [pool.submit(decode_file, path) for path in paths[start : start + BATCH_SIZE]]
            yield [future.result() for future in batch]


def columns(row: PredictionRow, classes: Sequence[str], *, with_eyes: bool) -> dict[str, object]:
    """A row as the output has it.

    Args:
        row: the row.
        classes: the model's classes; of more than two, each gets a column `probability: NAME` with its probability.
        with_eyes: whether there is a column `eye`.
    """
    own = {name: value for name, value in asdict(row).items() if name != "probabilities"}
    if not with_eyes:
        del own["eye"]
    if len(classes) == 2:
        return own
    each = row.probabilities or (None,) * len(classes)
    return own | {f"probability: {name}": p for name, p in zip(classes, each, strict=True)}


@contextmanager
def row_writer(
    path: Path, classes: Sequence[str] = ("female", "male"), *, with_eyes: bool = True
) -> Iterator[Callable[[list[PredictionRow]], None]]:
    """Yield a function that writes rows at once: as JSON lines if the file is called .jsonl, otherwise as CSV.

    Args:
        path: path of the file.
        classes: as for `columns`.
        with_eyes: as for `columns`.

    Raises:
        UserError: the file cannot be written.
    """

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Exclusive, so that no file that another process creates meanwhile is overwritten; a pipe exists before.
        mode = "w" if path.exists() else "x"
        # File names that are not UTF-8 are written as their bytes.
        file = path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"output: cannot write {path} ({error.strerror}); set output=") from error
    with file:
        if path.suffix == ".jsonl":

            def write(rows: list[PredictionRow]) -> None:
                file.writelines(json.dumps(columns(row, classes, with_eyes=with_eyes)) + "\n" for row in rows)
                file.flush()
        else:
            table = csv.writer(file)
            table.writerow(columns(PredictionRow("", "", None, "", ""), classes, with_eyes=with_eyes))

            def write(rows: list[PredictionRow]) -> None:
                found = (columns(row, classes, with_eyes=with_eyes).values() for row in rows)
                table.writerows(("" if value is None else value for value in values) for values in found)
                file.flush()

        yield write


def count_labels(rows: Sequence[PredictionRow]) -> Counter[str]:
    """The number of rows with each label, and with each reason for having none."""
    return Counter(row.label or row.note.partition(":")[0] for row in rows)
