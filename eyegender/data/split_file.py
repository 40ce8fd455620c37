"""A split as a CSV file (path, label, split, person): read to follow it, written to repeat it elsewhere."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.data.splits import PARTS, Split, make_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eyegender.data.samples import Samples

_MORE = "further cells"
_log = logging.getLogger(__name__)


def read_split_csv(path: str | Path, samples: Samples, dropped: Sequence[str] = ()) -> Split:
    """Follow a CSV with the columns path, label, split (train, val or test) and, if wanted, person.

    Paths are the samples' names, labels 0, 1 or class names. Pictures that no row names are left out, and counted.

    Args:
        path: the CSV file.
        samples: the pictures there are.
        dropped: names that the file may hold although they were left out as unreadable.

    Raises:
        UserError: the file cannot be read, or rows are malformed, unknown, double or contradict the data or each other.
    """
    rows = _rows(Path(path).expanduser())
    position = {name: i for i, name in enumerate(samples.names)}
    left_out = set(dropped)
    assigned = [""] * len(samples)
    part_of_person: dict[str, str] = {}
    faults: list[str] = []
    for number, row in rows:
        name, part, person = row["path"] or "", (row["split"] or "").strip(), (row.get("person") or "").strip()
        i = position.get(name)
        if i is None:
            if name not in left_out:
                faults.append(f"line {number}: no picture {name!r} in the data")
        elif _MORE in row:
            faults.append(f"line {number}: more cells than the first line has columns")
        elif assigned[i]:
            faults.append(f"line {number}: {name!r} a second time")
        elif part not in PARTS:
            faults.append(f"line {number}: split must be train, val or test, got {part!r}")
        elif (row["label"] or "").strip() not in {str(samples.labels[i]), samples.classes[samples.labels[i]]}:
            faults.append(f"line {number}: {name!r} is {samples.classes[samples.labels[i]]}, got {row['label']!r}")
        elif person and part_of_person.setdefault(person, part) != part:
            faults.append(f"line {number}: person {person!r} in {part} and in {part_of_person[person]}")
        else:
            assigned[i] = part
    if faults:
        raise UserError(
            f"every row of {path} must fit the data, got {len(faults)} that do not ({faults[0]}); repair them",
            tuple(faults),
        )
    unnamed = assigned.count("")
    if unnamed:
        _log.warning("%s names no split for %d of %d pictures; they are left out", path, unnamed, len(samples))
    return make_split(samples, assigned, "file")


def write_split_csv(
    path: str | Path, samples: Samples, split: Split, groups: Sequence[str] | NDArray[np.int64] | None = None
) -> None:
    """Write what `read_split_csv` reads; `groups` (persons, or what stands for them) fill the column person."""
    with Path(path).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "person"])
        part_of = {int(i): part for part in PARTS for i in split.part(part)}
        for i in sorted(part_of, key=lambda i: samples.names[i]):
            person = "" if groups is None else str(groups[i])
            writer.writerow([samples.names[i], int(samples.labels[i]), part_of[i], person])


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restkey=_MORE)
            columns = reader.fieldnames or []
            lacking = [column for column in ("path", "label", "split") if column not in columns]
            if lacking:
                raise UserError(
                    f"data.split.file must have the columns path, label, split (and person), got {path} without "
                    f"{', '.join(lacking)}; add them to its first line"
                )
            return [(reader.line_num, dict(row)) for row in reader]
    except OSError as error:
        raise UserError(
            f"data.split.file must be a readable CSV file, got {path.absolute()} ({error.strerror})"
        ) from error
    except csv.Error as error:
        raise UserError(f"data.split.file must be a CSV file, got {path.absolute()} ({error})") from error
