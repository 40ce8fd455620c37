"""The confusion matrix as a table that fits a terminal; of many classes, the most frequent confusions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from eyegender.core.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_CLASSES = 10  # in a table of all pairs
MOST_PAIRS = 10
_NAME = 14  # characters of a class name in a heading


def confusion_table(matrix: NDArray[np.int64], classes: Sequence[str], width: int = 80) -> Table:
    """A table of images by true class (rows) and predicted class (columns).

    If the names are too long for columns, these have the numbers that the rows show. More than `MOST_CLASSES` classes
    become a list of the pairs that are confused most often.

    Args:
        matrix: numbers of images, shape (K, K), true classes first.
        classes: names of the classes.
        width: columns of the terminal.
    """
    names = [escape(one_line(name)) for name in classes]
    if len(classes) > MOST_CLASSES:
        return _worst_pairs(matrix, names)
    short = [one_line(name) for name in classes]
    short = [escape(name if len(name) <= _NAME else f"{name[: _NAME - 1]}…") for name in short]
    digits = max(len(f"{count:,}") for count in matrix.ravel().tolist())
    wide = max(map(len, short)) + sum(max(len(name), digits) + 2 for name in short) + len("  correct") + 6
    numbered = wide > width or len(set(short)) < len(short)
    heads = [str(number) for number in range(1, len(names) + 1)] if numbered else short
    rows = [f"{number} {name}" for number, name in enumerate(short, 1)] if numbered else short
    table = Table(box=SIMPLE, title="predicted class (columns) of each true class (rows)", title_justify="left")
    table.add_column("true class", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("correct", justify="right", no_wrap=True)
    for k, row in enumerate(rows):
        table.add_row(row, *(f"{count:,}" for count in matrix[k].tolist()), _share(matrix[k, k], matrix[k].sum()))
    return table


def _worst_pairs(matrix: NDArray[np.int64], names: Sequence[str]) -> Table:
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in order]
    title = f"most frequent confusions of {len(names)} classes; metrics.json has all"
    table = Table(box=SIMPLE, title=title, title_justify="left")
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
    return table


def _share(count: int | np.int64, total: int | np.int64) -> str:
    return f"{100 * count / total:.1f}%" if total else "-"
