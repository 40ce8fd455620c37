"""The confusion matrix as a table that fits a terminal; of many classes, the most frequent confusions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from eyegender.core.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_CLASSES = 10  # in a table of all pairs
MOST_PAIRS = 10
_NAME = 14  # characters of a class name in a heading


def confusion_table(matrix: NDArray[np.int64], classes: Sequence[str], width: int = 80) -> Group:
    """A table of images by true class (rows) and predicted class (columns).

    If the names are too long for columns, these have the numbers that the rows show. More than `MOST_CLASSES` classes,
    and what fits in no way, become a list of the pairs that are confused most often.

    Args:
        matrix: numbers of images, shape (K, K), true classes first.
        classes: names of the classes.
        width: columns of the terminal.
    """
    names = [one_line(name) for name in classes]
    cut = [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in names]
    counts = [[str(count) for count in row] for row in matrix.tolist()]
    digits = max(len(count) for row in counts for count in row)
    numbers = [str(number) for number in range(1, len(names) + 1)]
    numbered = [f"{number} {name}" for number, name in zip(numbers, cut, strict=True)]
    is_small = len(classes) <= MOST_CLASSES
    for heads, labels, gap in ((cut, cut, 2), (numbers, numbered, 2), (numbers, numbered, 1)):
        columns = [max(len(head), digits) for head in (*heads, "correct")]
        wide = max(map(len, (*labels, "true class"))) + sum(columns) + gap * (len(columns) + 1)
        if is_small and wide <= width and len(set(heads)) == len(heads):
            break
    else:
        return _worst_pairs(matrix, [escape(name) for name in names])
    table = Table(box=SIMPLE, padding=(0, gap - 1, 0, 0), pad_edge=False)
    table.add_column("true class", no_wrap=True)
    for head in heads:
        table.add_column(escape(head), justify="right", no_wrap=True)
    table.add_column("correct", justify="right", no_wrap=True)
    for k, label in enumerate(labels):
        table.add_row(escape(label), *counts[k], _share(matrix[k, k], matrix[k].sum()))
    return Group("Images by true class (rows) and predicted class (columns)", table)


def _worst_pairs(matrix: NDArray[np.int64], names: Sequence[str]) -> Group:
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in order]
    table = Table(box=SIMPLE)
    table.add_column("true class")
    table.add_column("predicted as")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("of the class", justify="right", no_wrap=True)
    for true, predicted in pairs:
        if count := int(errors[true, predicted]):
            share = _share(count, matrix[true].sum())
            table.add_row(names[true], names[predicted], f"{count:,}", share)
    if not errors.any():
        table.add_row("no image is misclassified", "", "", "")
    return Group(f"Most frequent confusions of {len(names)} classes; metrics.json has all", table)


def _share(count: int | np.int64, total: int | np.int64) -> str:
    return f"{100 * count / total:.1f}%" if total else "-"
