"""Reads a split from a CSV file with the columns path, label, split and, optionally, person."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.data.splits import SPLITS, Split, make_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.data.readers import Samples

_EXTRA_CELLS = "extra cells"
_log = logging.getLogger(__name__)


def read_split_csv(path: str | Path, samples: Samples, dropped: Sequence[str] = ()) -> Split:
    """The split in a CSV file with the columns path, label, split (train, val or test) and, optionally, person.

    Paths are the names of samples; labels are 0, 1 or class names. Images without a row are left out, with a warning.

    Args:
        path: the CSV file.
        samples: the samples to split.
        dropped: names of samples that were left out as unreadable; the file may contain them.

    Raises:
        UserError: the file cannot be read, or a row is malformed, unknown, duplicate or contradicts the data or another
            row.
    """
    rows = _rows(Path(path).expanduser())
    position = {name: i for i, name in enumerate(samples.names)}
    left_out = set(dropped)
    assigned = [""] * len(samples)
    split_of_person: dict[str, str] = {}
    faults: list[str] = []
    for number, row in rows:
        name, split, person = row["path"] or "", (row["split"] or "").strip(), (row.get("person") or "").strip()
        i = position.get(name)
        if i is None:
            if name not in left_out:
                faults.append(f"line {number}: no image {name!r} in the data")
        elif _EXTRA_CELLS in row:
            faults.append(f"line {number}: more cells than the first line has columns")
        elif assigned[i]:
            faults.append(f"line {number}: {name!r} a second time")
        elif split not in SPLITS:
            faults.append(f"line {number}: split must be train, val or test, got {split!r}")
        elif (row["label"] or "").strip() not in {str(samples.labels[i]), samples.classes[samples.labels[i]]}:
            faults.append(f"line {number}: {name!r} is {samples.classes[samples.labels[i]]}, got {row['label']!r}")
        elif person and split_of_person.setdefault(person, split) != split:
            faults.append(f"line {number}: person {person!r} in {split} and in {split_of_person[person]}")
        else:
            assigned[i] = split
    if faults:
        raise UserError(
            f"every row of {path} must match the data, got {len(faults)} that do not ({faults[0]}); repair them",
            tuple(faults),
        )
    unnamed = assigned.count("")
    if unnamed:
        _log.warning("%s has no split for %d of %d images; they are left out", path, unnamed, len(samples))
    return make_split(samples, assigned, "file")


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restkey=_EXTRA_CELLS)
            columns = reader.fieldnames or []
            missing = [column for column in ("path", "label", "split") if column not in columns]
            if missing:
                raise UserError(
                    f"data.split.file must have the columns path, label, split (and person), got {path} without "
                    f"{', '.join(missing)}; add them to its first line"
                )
            return [(reader.line_num, dict(row)) for row in reader]
    except OSError as error:
        raise UserError(
            f"data.split.file must be a readable CSV file, got {path.absolute()} ({error.strerror})"
        ) from error
    except csv.Error as error:
        raise UserError(f"data.split.file must be a CSV file, got {path.absolute()} ({error})") from error
