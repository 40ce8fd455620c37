"""Images listed in a CSV file with the columns file, label (female or male) and person."""

import csv
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.data.readers import Samples, UnreadableImageError

LABELS = ("female", "male")


class CsvReader:
    """File names in the table are relative to its folder."""

    def __init__(self, table: str) -> None:
        self.table = Path(table)

    def read(self) -> Samples:
        if not self.table.is_file():
            raise UserError(f"data.table must be a CSV file, got {self.table}; set data.table")
        with self.table.open(newline="") as opened:
            rows = sorted(csv.DictReader(opened), key=lambda row: row["file"])
        unknown = {row["label"] for row in rows} - set(LABELS)
        if unknown:
            raise UserError(f"labels must be female or male, got {sorted(unknown)} in {self.table}; correct them")
        paths = [self.table.parent / row["file"] for row in rows]
        return Samples(
            source="csv",
            names=tuple(row["file"] for row in rows),
            labels=np.array([LABELS.index(row["label"]) for row in rows], dtype=np.uint8),
            # The cache finds an image by its digest: equal contents, equal digests.
            digests=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths),
            open=lambda i: _open(paths[i]),
            persons=tuple(row["person"] for row in rows),
        )


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except OSError as error:
        raise UnreadableImageError(str(error)) from error
