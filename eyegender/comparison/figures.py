"""The figures of a comparison: all runs in one picture, each in the colour of its number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_curve as roc_points

from eyegender.comparison.figures import attribute_accuracy
from eyegender.comparison.figures import disagreements_sheet
from eyegender.comparison.run_record import SYNTHETIC_NOTE
from eyegender.plots.confusion_matrix import draw_confusion
from eyegender.plots.learning_curves import SPLITS, epochs, finite_curves, whole_epochs
from eyegender.plots.reliability import draw_reliability, reliability_axes
from eyegender.plots.roc import roc_axes
from eyegender.plots.style import (
    INK,
    QUIET,
    SMALL_SIZE,
    colour,
    dress,
    legend,
    legend_below,
    marker,
    new_figure,
    percent,
    percent_axis,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from eyegender.comparison.comparison import Comparison, Row
    from eyegender.comparison.figures import Pictures

# More lines than colours cannot be told apart; the table still has every run.
MOST_RUNS = 8


def comparison_figures(comparison: Comparison, pictures: Pictures | None = None) -> dict[str, Figure]:
    """Every figure that the runs have data for, by file name.

    Args:
        comparison: from `compare`.
        pictures: from K picture names to their pixels (K, C, H, W), for the sheet of disagreements; None leaves it out.
    """
    rows = comparison.rows[:MOST_RUNS]
    note = _note(comparison)
    drawn: dict[str, Figure | None] = {
        "accuracy_per_epoch": accuracy_per_epoch(rows, note),
        "roc": roc_curves(rows, comparison.classes, note),
        "reliability": reliability_diagrams(rows, comparison.classes, note),
        "confusion_matrices": confusion_matrices(rows, comparison.classes, note),
        "accuracy_against_latency": accuracy_against_latency(rows, note),
        "accuracy_by_attribute": attribute_accuracy(rows, note),
        "disagreements": None if pictures is None else disagreements_sheet(comparison, pictures, note),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def accuracy_per_epoch(rows: Sequence[Row], note: str | None = None) -> Figure | None:
    """Training dashed, validation solid; None where no run has a history."""
    curves = {row.number: finite_curves(row.record.history) for row in rows}
    longest = max((len(v) for known in curves.values() for k, v in known.items() if k.endswith("/accuracy")), default=0)
    if not longest:
        return None
    height = 4.6 + 0.1 * len(rows)
    figure = new_figure(9.0, height, "Accuracy per epoch: training dashed, validation solid", note)
    axes = dress(figure.subplots(), "epoch", "accuracy")
    for row in rows:
        labelled = False
        for split, _, line in reversed(SPLITS):
            values = curves[row.number].get(f"{split}/accuracy")
            if values is None:
                continue
            axes.plot(
                epochs(values), values, line, color=colour(row.number - 1), linewidth=1.8 if split == "val" else 1.2,
                marker=marker(row.number - 1) if split == "val" and longest <= 30 else "", markersize=4.5,
                label=None if labelled else plain(row.label),
            )  # fmt: skip
            labelled = True
    whole_epochs(axes, longest)
    percent_axis(axes.yaxis)
    legend_below(axes, columns=2)
    return figure


def roc_curves(rows: Sequence[Row], classes: Sequence[str], note: str | None = None) -> Figure | None:
    """None where no run was tested on both classes."""
    drawable = [row for row in rows if not np.isnan(row.metrics["auroc"].value)]
    if not drawable:
        return None
    figure = new_figure(6.0, 5.6, "Test ROC and its area (AUC)", note)
    axes = roc_axes(figure.subplots(), classes)
    for row in drawable:
        x, y, _ = roc_points(row.predictions.labels, row.predictions.probabilities)
        name = f"{plain(row.label)}: {row.metrics['auroc'].value:.3f}"
        axes.plot(x, y, color=colour(row.number - 1), linewidth=1.8, label=name)
    legend(axes, loc="lower right")
    return figure


def reliability_diagrams(rows: Sequence[Row], classes: Sequence[str], note: str | None = None) -> Figure:
    figure = new_figure(6.0, 5.0 + 0.2 * len(rows), "Test reliability and calibration error", note)
    axes = reliability_axes(figure.subplots(), classes)
    for row in rows:
        name = f"{plain(row.label)}: {percent(row.metrics['calibration_error'].value)}"
        table = row.predictions
        draw_reliability(axes, table.labels, table.probabilities, colour(row.number - 1), name)
    legend_below(axes)
    return figure


def confusion_matrices(rows: Sequence[Row], classes: Sequence[str], note: str | None = None) -> Figure:
    columns = min(len(rows), 3)
    lines = -(-len(rows) // columns)
    figure = new_figure(max(4.9, 3.7 * columns), 0.5 + 3.7 * lines, "Test confusion matrices", note)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, row in zip(grid, rows, strict=False):
        title = f"{plain(_short(row.label))}: {percent(row.metrics['accuracy'].value)}"
        draw_confusion(axes, row.predictions.counts, classes, title)
    for axes in grid[len(rows) :]:
        axes.set_axis_off()
    return figure


def accuracy_against_latency(rows: Sequence[Row], note: str | None = None) -> Figure | None:
    """With the Pareto front: the runs that no other run beats in both. None where no latency is known."""
    timed = [row for row in rows if row.record.facts.latency_ms is not None]
    if not timed:
        return None
    figure = new_figure(7.5, 4.6 + 0.1 * len(timed), "Test accuracy against latency, with 95% intervals", note)
    axes = dress(figure.subplots(), "milliseconds per picture on this machine", "accuracy")
    latencies = [row.record.facts.latency_ms or 0.0 for row in timed]
    widest = 1.15 * max(latencies)
    points = [(latency, row.metrics["accuracy"].value) for latency, row in zip(latencies, timed, strict=True)]
    front = [points[i] for i in pareto_front(points)]
    front.append((widest, front[-1][1]))
    axes.step(*zip(*front, strict=True), where="post", color=QUIET, linewidth=1.0, linestyle=":", label="Pareto front")
    for row, latency in zip(timed, latencies, strict=True):
        accuracy = row.metrics["accuracy"]
        reach = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
        shape: dict[str, Any] = {
            "color": colour(row.number - 1),
            "marker": marker(row.number - 1),
            "markersize": 7.0,
            "capsize": 0,
        }
        axes.errorbar(
            [latency], [accuracy.value], yerr=reach, linestyle="", elinewidth=1.2, label=plain(row.label), **shape
        )
        axes.annotate(f"{row.number}", (latency, accuracy.value), (7, 4), textcoords="offset points",
                      fontsize=SMALL_SIZE, color=INK)  # fmt: skip
    axes.set_xlim(0.0, widest)
    percent_axis(axes.yaxis)
    legend_below(axes, columns=2)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the (cost, value) points that no other point beats in both, in order of cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def _note(comparison: Comparison) -> str | None:
    parts = []
    if comparison.synthetic:
        parts.append(SYNTHETIC_NOTE)
    if len(comparison.rows) > MOST_RUNS:
        parts.append(f"The first {MOST_RUNS} of {len(comparison.rows)} runs.")
    if len(comparison.groups) > 1:
        parts.append("Runs of different groups are not comparable.")
    return " ".join(parts) or None


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"
