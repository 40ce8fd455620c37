"""Reads well-formed annotation files many times as fast as line by line; leaves all others to the reader of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.text_columns import sorting_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK = 1 << 21  # bytes at a time: some tens of MB of memory
_LONGEST_NAME = 128
_LONGEST_NUMBER = 12


def parse_rows(text: bytes, columns: int, separator: bytes) -> tuple[NDArray[np.bytes_], NDArray[np.int64]] | None:
    """The names and the whole numbers of all lines; None if anything in them is unusual, let alone wrong.

    Args:
        text: lines of a name and `columns` numbers in ASCII, the last one with its end.
        columns: number of integers on each line.
        separator: what is between the cells: a comma, or one or more spaces.
    """
    if not text.isascii() or not text.endswith(b"\n"):
        return None
    names, values = [], []
    for block in _blocks(np.frombuffer(text, dtype=np.uint8)):
        found = _parse_block(block, columns, separator)
        if found is None:
            return None
        names.append(found[0])
        values.append(found[1])
    name = np.concatenate(names)
    order = sorting_order(name)
    if np.any(name[order[1:]] == name[order[:-1]]) or np.any(np.isin(name, [b".", b".."])):
        return None
    return name, np.concatenate(values)


def _blocks(text: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Pieces that end with a line."""
    newline = ord("\n")
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        while text[end - 1] != newline:
            end += 1
        yield text[start:end]
        start = end


def _parse_block(
    text: NDArray[np.uint8], columns: int, separator: bytes
) -> tuple[NDArray[np.bytes_], NDArray[np.int64]] | None:
    is_end = text == ord("\n")
    is_gap = is_end | (text == separator[0])
    if np.any(text[~is_gap] <= ord(" ")):  # another space or a control character
        return None
    before = np.concatenate([[True], is_gap[:-1]])
    if separator == b"," and np.any(is_gap & before):  # an empty cell or line
        return None
    starts = np.flatnonzero(~is_gap & before)
    ends = np.flatnonzero(is_gap & ~before)
    cells = np.diff(np.searchsorted(starts, np.flatnonzero(is_end)), prepend=0)
    if np.any(cells != columns + 1):
        return None
    start, length = (each.reshape(-1, columns + 1) for each in (starts, ends - starts))
    names = _names(text, start[:, 0], length[:, 0])
    values = _numbers(text, start[:, 1:], length[:, 1:])
    return None if names is None or values is None else (names, values)


def _names(text: NDArray[np.uint8], starts: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.bytes_] | None:
    width = int(length.max())
    if width > _LONGEST_NAME:
        return None
    place = np.arange(width)
    letters = text[np.minimum(starts[:, None] + place, len(text) - 1)]
    letters = np.where(place < length[:, None], letters, 0).astype(np.uint8)
    if np.any(np.isin(letters, np.frombuffer(b"/\\:", dtype=np.uint8))):
        return None
    return np.ascontiguousarray(letters).view(f"S{width}")[:, 0]


def _numbers(text: NDArray[np.uint8], starts: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64] | None:
    first = text[starts]
    signed = (first == ord("-")) | (first == ord("+"))
    digits = length - signed
    if digits.min() < 1 or digits.max() > _LONGEST_NUMBER:
        return None
    values = np.zeros(starts.shape, dtype=np.int64)
    at = starts + signed
    for place in range(int(digits.max())):
        within = place < digits
        digit = text[np.where(within, at + place, 0)].astype(np.int64) - ord("0")
        if np.any(within & ((digit < 0) | (digit > 9))):
            return None
        values = np.where(within, values * 10 + digit, values)
    return np.where(first == ord("-"), -values, values)
