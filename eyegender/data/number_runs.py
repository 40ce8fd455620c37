"""Consecutive file numbers: in eye data sets neighbours are very often the left and the right eye of one person."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NUMBERED = re.compile(r"(.*?)(\d+)\D*", re.DOTALL)


def place_in_series(name: str) -> tuple[str, str, int]:
    """Folder, beginning of the name, and the last number in it; a name without a number is a series of its own."""
    path = PurePosixPath(name)
    match = _NUMBERED.fullmatch(path.stem)
    return (str(path.parent), match[1], int(match[2])) if match else (str(path.parent), path.stem, -1)


def number_runs(names: Sequence[str]) -> list[list[int]]:
    """Positions that belong together by file number, each run in ascending order of numbers; the rest is left out.

    A run holds the files of one folder whose names start alike and whose last numbers follow each other without a gap;
    `12-left.jpg` and `12-right.jpg` share a number and a run.
    """
    numbered: dict[tuple[str, str], list[tuple[int, str, int]]] = {}
    for i, name in enumerate(names):
        folder, start, number = place_in_series(name)
        if number >= 0:
            numbered.setdefault((folder, start), []).append((number, name, i))
    runs: list[list[int]] = []
    for files in numbered.values():
        files.sort()
        previous: int | None = None
        for number, _, i in files:
            if previous is not None and number - previous <= 1:
                runs[-1].append(i)
            else:
                runs.append([i])
            previous = number
    return runs


def cut_long_run(run: Sequence[int], strength: NDArray[np.float32], weakest: float, longest: int) -> list[list[int]]:
    """Cut a run at links where neighbours clearly differ, so that pieces hold at most `longest` pictures if possible.

    Args:
        run: positions, in the order of their numbers.
        strength: how alike neighbours are, shape (len(run) - 1,).
        weakest: a link of this strength or more is never cut, whatever the length.
        longest: pictures per piece; a piece is longer where no link within it may be cut.
    """
    pieces: list[list[int]] = []
    start = 0
    while len(run) - start > longest:
        # A cut after a quarter at the soonest: the weakest of many links hardly ever parts two eyes of one person.
        first = start + max(1, longest // 4)
        window = np.arange(first - 1, start + longest - 1 + 1)[: len(strength) - first + 1]
        at = int(window[np.argmin(strength[window])]) if len(window) else -1
        if at < 0 or strength[at] >= weakest:
            later = np.flatnonzero(strength[first - 1 :] < weakest)
            if not len(later):
                break
            at = first - 1 + int(later[0])
        pieces.append(list(run[start : at + 1]))
        start = at + 1
    pieces.append(list(run[start:]))
    return pieces
