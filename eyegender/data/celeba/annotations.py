"""Reads CelebA's annotation files: the name of an image and integers per line, as text or as Kaggle's CSV."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError
from eyegender.data.celeba.well_formed import parse_rows
from eyegender.data.text_columns import TextColumn, text_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")  # int() also accepts 1_0 and the digits of other scripts
_COUNT = re.compile(r"\s*[0-9]{1,9}\s*")
_DOWNLOAD = "download it again (CelebA's page, or data.download=true)"


@dataclass(frozen=True)
class Annotations:
    """The contents of an annotation file.

    Args:
        path: the file.
        columns: names of the columns, in order; empty if the file has none.
        names: N file names of images, without folders.
        values: int64 of shape (N, number of columns).
        first_line: number of the line with the first values, starting at 1.
        sha256: hex hash of the file.
    """

    path: Path
    columns: tuple[str, ...]
    names: TextColumn
    values: NDArray[np.int64]
    first_line: int
    sha256: str

    def column(self, name: str) -> NDArray[np.int64]:
        """The integers of a column.

        Raises:
            UserError: the file has no such column.
        """
        if name not in self.columns:
            raise UserError(f"{self.path} must have the column {name}, got {', '.join(self.columns)}; {_DOWNLOAD}")
        return self.values[:, self.columns.index(name)]

    def refuse(self, wrong: NDArray[np.bool_], rule: str) -> None:
        """Raise UserError with the first wrong row and value if any of `wrong` (shaped like `values`) is true.

        Args:
            wrong: whether each value breaks the rule.
            rule: what the file must contain.
        """
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            name = f" as {self.columns[column]}" if self.columns else ""
            raise UserError(
                f"{self.path} must hold {rule}, got {self.values[row, column]}{name} of {self.names[row]} in line "
                f"{self.first_line + row} ({int(wrong.sum())} such values); {_DOWNLOAD}"
            )


def read_annotations(path: Path, columns: int, *, headed: bool) -> Annotations:
    """Read a `.txt` file in CelebA's format or a `.csv` file in Kaggle's.

    Args:
        path: the file; a `.csv` file always starts with the names of its columns.
        columns: number of integers on each line.
        headed: whether a `.txt` file starts with the number of images and a line of column names.

    Raises:
        UserError: not an annotation file (such as a web page), a truncated one, or a name outside of the folder.
    """
    data = _read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    return _read_well_formed(path, data, columns, sha256, headed=headed) or _read_lines(
        path, data, columns, sha256, headed=headed
    )


def _read_well_formed(path: Path, data: bytes, columns: int, sha256: str, *, headed: bool) -> Annotations | None:
    """The contents of a file without any fault; None if `_read_lines` has to look at it."""
    comma = path.suffix == ".csv"
    heading_lines = 1 if comma else 2 if headed else 0
    *head, body = data.replace(b"\r\n", b"\n").split(b"\n", heading_lines)
    if len(head) < heading_lines or not b"".join(head).isascii() or data.lstrip().startswith(b"<"):
        return None
    lines = [line.decode() for line in head]
    if headed and not comma and not _COUNT.fullmatch(lines[0]):
        return None
    heading = _heading(lines, comma=comma)
    if heading and (len(heading) != columns or len(set(heading)) < columns):
        return None
    found = parse_rows(body.rstrip(b"\n") + b"\n", columns, b"," if comma else b" ")
    if found is None or (headed and not comma and int(lines[0]) != len(found[0])):
        return None
    return Annotations(path, heading, TextColumn(found[0]), found[1], heading_lines + 1, sha256)


def _heading(lines: Sequence[str], *, comma: bool) -> tuple[str, ...]:
    """The names of the columns in the first lines of a file; none if these are not a heading."""
    if comma:
        return tuple(cell.strip() for cell in lines[0].split(","))[1:]
    return tuple(lines[1].split()) if len(lines) > 1 else ()


def _read_lines(path: Path, data: bytes, columns: int, sha256: str, *, headed: bool) -> Annotations:
    lines = _lines(path, data)
    comma = path.suffix == ".csv"
    heading: tuple[str, ...] = ()
    first = 0
    stated: int | None = None
    if comma:
        heading, first = _heading(lines, comma=True), 1
    elif headed:
        if len(lines) < 2 or not _COUNT.fullmatch(lines[0]):
            raise UserError(f"{path} line 1 must be the number of images, got {lines[0][:40]!r}; {_DOWNLOAD}")
        stated, heading, first = int(lines[0]), _heading(lines, comma=False), 2
    if heading and len(heading) != columns:
        raise UserError(f"{path} must name {columns} columns, got {len(heading)}; {_DOWNLOAD}")
    if len(set(heading)) < len(heading):
        twice = next(name for name in heading if heading.count(name) > 1)
        raise UserError(f"{path} must name each column once, got {twice} twice; {_DOWNLOAD}")
    rows = [[cell.strip() for cell in line.split(",")] if comma else line.split() for line in lines[first:]]
    _check_rows(path, rows, columns, first)
    if stated is not None and stated != len(rows):
        raise UserError(f"{path} must hold the {stated} images that its first line says, got {len(rows)}; {_DOWNLOAD}")
    names = tuple(row[0] for row in rows)
    _check_names(path, names, first)
    values = _integers(path, rows, columns, first)
    return Annotations(path, heading, TextColumn(text_array(names)), values, first + 1, sha256)


def check_attributes(attributes: Annotations) -> None:
    """Raises UserError unless all values are -1 or 1, as in CelebA, or all are 0 or 1, as in copies of it.

    The column `Male` may be in one notation and all other columns in the other.
    """
    values = attributes.values
    wrong = (values < -1) | (values > 1)
    label = np.arange(values.shape[1]) == (attributes.columns.index("Male") if "Male" in attributes.columns else -1)
    for columns in (label, ~label):
        minus, zero = (values == -1) & columns, (values == 0) & columns
        if minus.any() and zero.any():
            # The rarer value is reported as the mistake, because its meaning is unknown.
            wrong |= minus if minus.sum() < zero.sum() else zero
    attributes.refuse(wrong, "-1 or 1 throughout, or 0 or 1 throughout")


def eye_columns(landmarks: Annotations) -> list[int]:
    """Positions of the columns for x and y of both eyes; CelebA's order if the columns have other names."""
    wanted = ("lefteye_x", "lefteye_y", "righteye_x", "righteye_y")
    if not set(wanted) & set(landmarks.columns):
        return [0, 1, 2, 3]
    for name in wanted:
        landmarks.column(name)  # raises if there is none
    return [landmarks.columns.index(name) for name in wanted]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}; allow reading") from error


def _lines(path: Path, data: bytes) -> Sequence[str]:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a text file, got binary data; {_DOWNLOAD}") from error
    if text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<head", "<?xml")):
        raise UserError(
            f"{path} must be an annotation file, got a web page (a download refused for its quota, most likely); "
            "delete it and download it again tomorrow or from another mirror"
        )
    lines = text.rstrip("\n").split("\n")
    if not lines[0].strip():
        raise UserError(f"{path} must not be empty; {_DOWNLOAD}")
    return lines


def _check_rows(path: Path, rows: list[list[str]], columns: int, first: int) -> None:
    for number, row in enumerate(rows, first + 1):
        if len(row) != columns + 1:
            raise UserError(
                f"{path} line {number} must hold the name of an image and {columns} numbers, got {len(row)} fields "
                f"({' '.join(row)[:40]!r}); {_DOWNLOAD}"
            )


def _check_names(path: Path, names: tuple[str, ...], first: int) -> None:
    for number, name in enumerate(names, first + 1):
        if "/" in name or "\\" in name or name in {"", ".", ".."} or "\0" in name or ":" in name:
            raise UserError(f"{path} line {number} must name an image inside the folder, got {name!r}; remove the line")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        double = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UserError(f"{path} must name each image once, got {double} twice; remove one line")


def _integers(path: Path, rows: list[list[str]], columns: int, first: int) -> NDArray[np.int64]:
    # Many rows have few distinct cells; each is parsed once.
    cells = {cell for row in rows for cell in row[1:]}
    wrong = {cell for cell in cells if not _INTEGER.fullmatch(cell)}
    if wrong:
        numbered = ((number, cell) for number, row in enumerate(rows, first + 1) for cell in row[1:])
        number, cell = next((number, cell) for number, cell in numbered if cell in wrong)
        raise UserError(f"{path} line {number} must hold whole numbers after the name, got {cell[:40]!r}; {_DOWNLOAD}")
    value_of = {cell: int(cell) for cell in cells}
    return np.array([[value_of[cell] for cell in row[1:]] for row in rows], dtype=np.int64).reshape(-1, columns)
