"""What a model says of picture files, with abstentions, as rows for a CSV or JSON lines file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError
from eyegender.core.progress import show_progress
from eyegender.data.decode import to_pixels
from eyegender.inference.image_files import Decoded, decoded_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from eyegender.inference.load import LoadedModel

    # From a face picture and its path to its eyes by name (`left` and `right` as seen in the picture), or none.
    Eyes = Callable[[Path, Image.Image], dict[str, Image.Image]]

ABSTAINED, UNREADABLE, NO_EYES = "abstained", "unreadable", "no eyes"


@dataclass(frozen=True)
class Row:
    """One line of the output.

    Args:
        path: of the file as given.
        eye: `left` or `right` as seen in a face picture; empty where the whole picture is an eye.
        probability: of label 1; None where there is no answer.
        label: the likelier class, empty where the model abstains or there is no answer.
        note: why there is no label.
    """

    path: str
    eye: str
    probability: float | None
    label: str
    note: str


def predict(
    model: LoadedModel, paths: Sequence[Path], *, min_confidence: float, eyes: Eyes | None = None
) -> Iterator[list[Row]]:
    """Rows for the files, batch by batch and in order.

    Args:
        model: what is asked.
        paths: of picture files.
        min_confidence: in 0.5..1; below it (the probability of the likelier class) the model abstains.
        eyes: cuts the eyes out of face pictures; None where the pictures are eyes.
    """
    with show_progress("predicting", len(paths)) as advance:
        # Eye positions count pixels as they are stored, so an EXIF orientation must not turn a face.
        for batch in decoded_batches(paths, upright=eyes is None):
            yield _rows(model, batch, min_confidence, eyes)
            advance(len(batch))


def _rows(model: LoadedModel, batch: list[Decoded], min_confidence: float, eyes: Eyes | None) -> list[Row]:
    card = model.card
    asked: list[tuple[Decoded, str, Any]] = []
    for one in batch:
        if one.image is None:
            asked.append((one, "", None))
        elif eyes is None:
            asked.append((one, "", one.image))
        else:
            asked += [(one, name, image) for name, image in eyes(one.path, one.image).items()] or [(one, "", None)]
    pixels = [to_pixels(image, card.size, card.color) for _, _, image in asked if image is not None]
    says = iter(model.probabilities(np.stack(pixels)).tolist() if pixels else [])
    rows = []
    for one, name, image in asked:
        if image is None:
            note = NO_EYES if one.image is not None else f"{UNREADABLE}: {one.reason}"
            rows.append(Row(str(one.path), name, None, "", note))
            continue
        p = float(next(says))
        # Written this way, NaN abstains.
        sure = max(p, 1 - p) >= min_confidence
        rows.append(
            Row(str(one.path), name, round(p, 6), card.classes[int(p > 0.5)] if sure else "", "" if sure else ABSTAINED)
        )
    return rows


@contextmanager
def row_writer(path: Path) -> Iterator[Callable[[list[Row]], None]]:
    """Writes rows as they come, as CSV or, where the file is called .jsonl, as JSON lines.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # File names that are no UTF-8 come out as they are.
        mode = "w" if path.exists() else "x"  # a pipe, or no file that another process makes meanwhile
        file = path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"output: cannot write {path} ({error.strerror}); set output=") from error
    with file:
        if path.suffix == ".jsonl":

            def write(rows: list[Row]) -> None:
                file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
                file.flush()
        else:
            table = csv.writer(file)
            table.writerow(field.name for field in fields(Row))

            def write(rows: list[Row]) -> None:
                table.writerows(("" if value is None else value for value in asdict(row).values()) for row in rows)
                file.flush()

        yield write


def tally(rows: Sequence[Row]) -> Counter[str]:
    """How many rows got each label, and how many got none for which reason."""
    return Counter(row.label or row.note.partition(":")[0] for row in rows)
