"""Confusion matrices with counts and with shares of each true class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from eyegender.plots.style import BLUE, INK, SMALL_SIZE, TEXT_SIZE, new_figure, percent, plain, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

# The most classes whose cells have room for shares, and for counts; of more, those with the most errors are shown.
_WITH_SHARES, _WITH_COUNTS = 4, 30
_LARGEST = 12.0  # inches that a figure grows at most
_LONGEST_NAME = 24
_BLUES = LinearSegmentedColormap.from_list("white_to_blue", ("#ffffff", "#a9cfe6", BLUE))


def confusion_matrix(
    counts: ArrayLike, classes: Sequence[str] = ("female", "male"), split: str = "test", note: str | None = None
) -> Figure:
    """A 2x2 (or CxC) table, coloured by the share of the true class.

    Of more than 30 classes, it shows the 29 with the most errors, and the others as one.

    Args:
        counts: [[tn, fp], [fn, tp]]: one row per true class and one column per predicted class, in label order.
        classes: class names in label order.
        split: name of the split, for the title.
        note: what the reader must know, for example that the data is synthetic.

    Raises:
        ValueError: the counts are not square, do not fit the classes, are negative or all 0.
    """
    table = _check_counts(counts, len(classes))
    n_correct, n = int(np.trace(table)), int(table.sum())
    title = f"{split.capitalize()} accuracy {percent(n_correct / n)} (n={n:,}), {n - n_correct:,} wrong"
    side = min(_LARGEST, max(0.0, 0.62 * (min(len(classes), _WITH_COUNTS) - 4)))
    figure = new_figure(4.9 + side, 4.3 + side, title, note)
    draw_confusion_matrix(figure.subplots(), table, classes)
    return figure


def draw_confusion_matrix(axes: Axes, table: NDArray[np.int64], classes: Sequence[str], title: str = "") -> None:
    """Draw the table on given axes, so that one figure can show several runs."""
    table, classes = _worst(table, classes)
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros(table.shape), where=totals > 0)
    axes.imshow(shares, cmap=_BLUES, vmin=0.0, vmax=1.0, aspect="equal")
    style_axes(axes, "predicted", "true", title, grid="none")
    for side in axes.spines.values():
        side.set_visible(False)
    positions = range(len(classes))
    if len(classes) > _WITH_SHARES:
        _label_many(axes, table, shares, classes)
        return
    axes.set_xticks(positions, [plain(name) for name in classes], fontsize=TEXT_SIZE, color=INK)
    names = [f"{plain(name)}\n(n={total:,})" for name, total in zip(classes, totals[:, 0], strict=True)]
    axes.set_yticks(
        positions, names, fontsize=TEXT_SIZE, color=INK, rotation=90, va="center", ha="right", multialignment="center"
    )
    for row in positions:
        for column in positions:
            ink = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row - 0.06, f"{table[row, column]:,}", ha="center", va="center", fontsize=16, color=ink)
            share = percent(shares[row, column]) if totals[row, 0] else "none in the data"
            axes.text(column, row + 0.16, share, ha="center", va="center", fontsize=SMALL_SIZE + 1, color=ink)


def _label_many(axes: Axes, table: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> None:
    """The class names in small print, and the counts as far as there is room; empty cells stay empty."""
    positions = range(len(classes))
    names = [plain(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…") for name in classes]
    axes.set_xticks(positions, names, fontsize=SMALL_SIZE, color=INK, rotation=90)
    axes.set_yticks(positions, names, fontsize=SMALL_SIZE, color=INK)
    for row, column in np.argwhere(table > 0).tolist():
        ink = "white" if shares[row, column] > 0.6 else INK
        axes.text(column, row, f"{table[row, column]:,}", ha="center", va="center", fontsize=SMALL_SIZE, color=ink)


def _worst(table: NDArray[np.int64], classes: Sequence[str]) -> tuple[NDArray[np.int64], Sequence[str]]:
    """The table of the classes with the most errors, and of all others together; small tables as they are."""
    if len(classes) <= _WITH_COUNTS:
        return table, classes
    errors = table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table)
    shown = np.sort(np.argsort(-errors, kind="stable")[: _WITH_COUNTS - 1])
    place = np.full(len(classes), len(shown))
    place[shown] = np.arange(len(shown))
    smaller = np.zeros((_WITH_COUNTS, _WITH_COUNTS), dtype=np.int64)
    np.add.at(smaller, (place[:, None], place[None, :]), table)
    return smaller, [*(classes[k] for k in shown), f"{len(classes) - len(shown)} other classes"]


def _check_counts(counts: ArrayLike, classes: int) -> NDArray[np.int64]:
    table = np.asarray(counts)
    if table.shape != (classes, classes):
        raise ValueError(f"counts must be {classes}x{classes} for {classes} classes, got shape {table.shape}")
    if (table < 0).any() or not table.sum():
        raise ValueError(f"counts must be 0 or more and not all 0, got {table.tolist()}")
    return table.astype(np.int64)
