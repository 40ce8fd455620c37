"""CelebA's annotation files: a picture's name and integers per line, as text or as Kaggle's CSV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")  # int() would also take 1_0 and the digits of other alphabets
_AGAIN = "download it again (CelebA's page, or data.download=true)"


@dataclass(frozen=True)
class Annotations:
    """One annotation file.

    Args:
        path: the file.
        columns: what the integers say, in order; empty where the file does not name them.
        names: N picture names, no directories in them.
        values: int64 of shape (N, number of columns).
        first_line: of the file that `values` begin in, counted from 1.
    """

    path: Path
    columns: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.int64]
    first_line: int

    def column(self, name: str) -> NDArray[np.int64]:
        """The integers of one column.

        Raises:
            UserError: the file has no such column.
        """
        if name not in self.columns:
            raise UserError(f"{self.path} must have the column {name}, got {', '.join(self.columns)}; {_AGAIN}")
        return self.values[:, self.columns.index(name)]

    def refuse(self, wrong: NDArray[np.bool_], rule: str) -> None:
        """Raise UserError, with the first row and value, where any of `wrong` (shaped as `values`) is true."""
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            name = f" as {self.columns[column]}" if self.columns else ""
            raise UserError(
                f"{self.path} must hold {rule}, got {self.values[row, column]}{name} of {self.names[row]} in line "
                f"{self.first_line + row} ({int(wrong.sum())} such values); {_AGAIN}"
            )


def read_annotations(path: Path, columns: int, *, headed: bool) -> Annotations:
    """Read a `.txt` file as CelebA's own or a `.csv` file as Kaggle's.

    Args:
        path: the file; a `.csv` always starts with its column names.
        columns: integers expected on each line.
        headed: a `.txt` starts with the number of pictures and a line of column names.

    Raises:
        UserError: not an annotation file (a web page, say), cut short, or with names that leave the folder.
    """
    lines = _lines(path)
    comma = path.suffix == ".csv"
    heading: tuple[str, ...] = ()
    first = 0
    stated: int | None = None
    if comma:
        heading = tuple(cell.strip() for cell in lines[0].split(","))[1:]
        first = 1
    elif headed:
        if len(lines) < 2 or not re.fullmatch(r"\s*[0-9]{1,9}\s*", lines[0]):
            raise UserError(f"{path} line 1 must be the number of pictures, got {lines[0][:40]!r}; {_AGAIN}")
        stated, heading, first = int(lines[0]), tuple(lines[1].split()), 2
    if heading and len(heading) != columns:
        raise UserError(f"{path} must name {columns} columns, got {len(heading)}; {_AGAIN}")
    if len(set(heading)) < len(heading):
        twice = next(name for name in heading if heading.count(name) > 1)
        raise UserError(f"{path} must name each column once, got {twice} twice; {_AGAIN}")
    rows = [[cell.strip() for cell in line.split(",")] if comma else line.split() for line in lines[first:]]
    _check_rows(path, rows, columns, first)
    if stated is not None and stated != len(rows):
        raise UserError(f"{path} must hold the {stated} pictures that its first line says, got {len(rows)}; {_AGAIN}")
    names = tuple(row[0] for row in rows)
    _check_names(path, names, first)
    return Annotations(path, heading, names, _integers(path, rows, columns, first), first + 1)


def check_attributes(attributes: Annotations) -> None:
    """Raises UserError unless all are -1 or 1, as CelebA writes them, or all 0 or 1, as others do.

    The column `Male` may be written the one way and all others the other way.
    """
    values = attributes.values
    wrong = (values < -1) | (values > 1)
    label = np.arange(values.shape[1]) == (attributes.columns.index("Male") if "Male" in attributes.columns else -1)
    for columns in (label, ~label):
        minus, zero = (values == -1) & columns, (values == 0) & columns
        if minus.any() and zero.any():
            # The rarer one is the mistake: nobody can say what it stands for.
            wrong |= minus if minus.sum() < zero.sum() else zero
    attributes.refuse(wrong, "-1 or 1 throughout, or 0 or 1 throughout")


def eye_columns(landmarks: Annotations) -> list[int]:
    """Where x and y of the left and of the right eye stand; as in CelebA where the columns have names of their own."""
    wanted = ("lefteye_x", "lefteye_y", "righteye_x", "righteye_y")
    if not set(wanted) & set(landmarks.columns):
        return [0, 1, 2, 3]
    for name in wanted:
        landmarks.column(name)  # which says so if there is none
    return [landmarks.columns.index(name) for name in wanted]


def _lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a text file, got binary data; {_AGAIN}") from error
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}; allow reading") from error
    if text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<head", "<?xml")):
        raise UserError(
            f"{path} must be an annotation file, got a web page (a download refused for its quota, most likely); "
            "delete it and download it again tomorrow or from another mirror"
        )
    lines = text.rstrip("\n").split("\n")
    if not lines[0].strip():
        raise UserError(f"{path} must not be empty; {_AGAIN}")
    return lines


def _check_rows(path: Path, rows: list[list[str]], columns: int, first: int) -> None:
    for number, row in enumerate(rows, first + 1):
        if len(row) != columns + 1:
            raise UserError(
                f"{path} line {number} must hold a picture's name and {columns} numbers, got {len(row)} fields "
                f"({' '.join(row)[:40]!r}); {_AGAIN}"
            )


def _check_names(path: Path, names: tuple[str, ...], first: int) -> None:
    for number, name in enumerate(names, first + 1):
        if "/" in name or "\\" in name or name in {"", ".", ".."} or "\0" in name or ":" in name:
            raise UserError(
                f"{path} line {number} must name a picture inside the folder, got {name!r}; remove the line"
            )
    if len(set(names)) < len(names):
        seen: set[str] = set()
        double = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UserError(f"{path} must name each picture once, got {double} twice; remove one line")


def _integers(path: Path, rows: list[list[str]], columns: int, first: int) -> NDArray[np.int64]:
    # Few different cells make up many rows: each is looked at once.
    cells = {cell for row in rows for cell in row[1:]}
    wrong = {cell for cell in cells if not _WHOLE.fullmatch(cell)}
    if wrong:
        places = ((number, cell) for number, row in enumerate(rows, first + 1) for cell in row[1:])
        number, cell = next((number, cell) for number, cell in places if cell in wrong)
        raise UserError(f"{path} line {number} must hold whole numbers after the name, got {cell[:40]!r}; {_AGAIN}")
    value_of = {cell: int(cell) for cell in cells}
    return np.array([[value_of[cell] for cell in row[1:]] for row in rows], dtype=np.int64).reshape(-1, columns)
