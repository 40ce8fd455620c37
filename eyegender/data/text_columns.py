"""Columns of many short texts (names, digests, persons), each in one array instead of an object per text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_BLOCK = 65536  # texts that exist as objects at a time
_HEX_VALUE = np.zeros(256, dtype=np.uint64)
_HEX_VALUE[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = range(16)
_IS_HEX = _HEX_VALUE > 0
_IS_HEX[ord("0")] = True


class TextColumn(Sequence[str]):
    """An immutable sequence of texts, which equals any sequence of the same texts.

    It takes the bytes of the longest text for each one. A slice is another column.

    Args:
        values: the texts in UTF-8, of shape (N,); surrogates stand for bytes that are not UTF-8. No text ends in a
            null character.
    """

    __slots__ = ("values",)

    def __init__(self, values: NDArray[np.bytes_]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> TextColumn: ...

    def __getitem__(self, index: int | slice) -> str | TextColumn:
        if isinstance(index, slice):
            return TextColumn(self.values[index])
        return _decoded(self.values[index])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from map(_decoded, self.values[start : start + _BLOCK].tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TextColumn):
            return len(self) == len(other) and bool(np.all(self.values == other.values))
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"TextColumn([{shown}{', ...' if len(self) > 3 else ''}], {len(self)} texts)"


class PathColumn(Sequence[str]):
    """The absolute paths of files in a folder, each made when it is asked for.

    Args:
        folder: the folder.
        names: their names, which may include a subfolder.
    """

    def __init__(self, folder: Path, names: TextColumn) -> None:
        self._folder = folder
        self._names = names
        self._start = f"{folder.absolute()}/"

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> PathColumn: ...

    def __getitem__(self, index: int | slice) -> str | PathColumn:
        if isinstance(index, slice):
            return PathColumn(self._folder, self._names[index])
        return self._start + self._names[index]

    def __iter__(self) -> Iterator[str]:
        return (self._start + name for name in self._names)


def text_array(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """The texts in UTF-8, of shape (N,), as `TextColumn` has them."""
    if isinstance(texts, TextColumn):
        return texts.values
    encoded = [text.encode(errors="surrogateescape") for text in texts]
    return np.array(encoded, dtype=np.bytes_) if encoded else np.empty(0, dtype="S1")


def text_column(texts: Sequence[str]) -> TextColumn:
    """The texts as a column."""
    return texts if isinstance(texts, TextColumn) else TextColumn(text_array(texts))


@overload
def take_texts(texts: TextColumn, index: NDArray[np.int64]) -> TextColumn: ...


@overload
def take_texts(texts: Sequence[str], index: NDArray[np.int64]) -> Sequence[str]: ...


def take_texts(texts: Sequence[str], index: NDArray[np.int64]) -> Sequence[str]:
    """The texts at `index`, in that order: a column of a column, else a tuple."""
    if isinstance(texts, TextColumn):
        return TextColumn(texts.values[index])
    return tuple(texts[i] for i in index.tolist())


def sorting_order(values: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """The positions of the texts in ascending order; equal texts stay in their order."""
    first = _sort_keys(values)[0]
    order = np.argsort(first)  # faster than the whole texts, and than a stable sort
    ordered = first[order]
    if not np.any(ordered[1:] == ordered[:-1]):
        return order
    order = np.argsort(first, kind="stable")
    tied = np.flatnonzero(ordered[1:] == ordered[:-1])
    if np.any(values[order[tied]] != values[order[tied + 1]]):
        return np.argsort(values, kind="stable")
    return order


def text_codes(values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """A number for each value, from 0 in the order in which the values first occur, and how many there are.

    Args:
        values: texts or whole numbers of shape (N,).
    """
    if not len(values):
        return np.empty(0, dtype=np.int64), 0
    order = sorting_order(values) if values.dtype.kind == "S" else np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), dtype=np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    first = order[is_new]  # the order is stable, so this is the first of each value
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    codes = np.empty(len(values), dtype=np.int64)
    codes[order] = number[np.cumsum(is_new) - 1]
    return codes, len(first)


def find_texts(wanted: NDArray[np.bytes_], among: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """The position of each wanted text among sorted, distinct ones; -1 if it is not there."""
    if not len(among):
        return np.full(len(wanted), -1, dtype=np.int64)
    first, keys = _sort_keys(among, wanted)
    if np.all(first[1:] > first[:-1]):
        order = np.argsort(keys)  # sorted keys are found several times as fast
        found = np.empty(len(wanted), dtype=np.int64)
        found[order] = np.searchsorted(first, keys[order])
    else:
        found = np.searchsorted(among, wanted)
    found = np.minimum(found, len(among) - 1)
    return np.where(among[found] == wanted, found, -1)


def joined_lines(before: bytes, values: NDArray[np.bytes_], after: bytes = b"") -> Iterator[bytes]:
    """All texts, each between `before` and `after`, joined in large pieces."""
    for start in range(0, len(values), _BLOCK):
        some = np.ascontiguousarray(values[start : start + _BLOCK])
        if np.all(np.strings.str_len(some) == some.itemsize):
            parts = (
                np.frombuffer(before, np.uint8),
                some.view(np.uint8).reshape(len(some), -1),
                np.frombuffer(after, np.uint8),
            )
            rows = [np.broadcast_to(part, (len(some), part.shape[-1])) for part in parts]
            yield np.concatenate(rows, axis=1).tobytes()
        else:
            yield b"".join([before + text + after for text in some.tolist()])


def _sort_keys(*columns: NDArray[np.bytes_]) -> list[NDArray[np.uint64]]:
    """Numbers in the order of the first letters of the texts, of 16 hex digits or of 8 other bytes."""
    letters = [_first_letters(column, 16) for column in columns]
    if all(np.all(_IS_HEX[some]) for some in letters):
        keys = []
        for some in letters:
            key = np.zeros(len(some), dtype=np.uint64)
            for place in range(16):
                key = (key << np.uint64(4)) | _HEX_VALUE[some[:, place]]
            keys.append(key)
        return keys
    return [np.ascontiguousarray(some[:, :8]).view(">u8")[:, 0].astype(np.uint64) for some in letters]


def _first_letters(values: NDArray[np.bytes_], count: int) -> NDArray[np.uint8]:
    """The first bytes of each text, of shape (N, count); 0 after its end."""
    return np.ascontiguousarray(values.astype(f"S{count}")).view(np.uint8).reshape(len(values), count)


def _decoded(value: bytes) -> str:
    return value.decode(errors="surrogateescape")
