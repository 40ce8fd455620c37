"""The figures of a comparison; each run has the colour and the marker of its number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve as roc_points

from eyegender.comparison.compared import TITLES
from eyegender.comparison.interval_chart import accuracy_figure
from eyegender.models.metrics import of_true_class
from eyegender.plots.confusion_matrix import draw_confusion_matrix
from eyegender.plots.image_sheet import image_sheet
from eyegender.plots.learning_curves import SPLITS, epochs, finite_curves, whole_epochs
from eyegender.plots.reliability import draw_reliability, reliability_axes
from eyegender.plots.roc import roc_axes
from eyegender.plots.style import (
    INK,
    QUIET,
    SMALL_SIZE,
    SYNTHETIC_NOTE,
    colour,
    legend,
    legend_below,
    marker,
    new_figure,
    percent,
    percent_axis,
    plain,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from eyegender.comparison.compared import ComparedRun
    from eyegender.comparison.comparison import Comparison
    from eyegender.tracking.predictions import Predictions

# Loads the images of K names: uint8 of shape (K, C, H, W).
LoadImages = Callable[[Sequence[str]], NDArray[np.uint8]]

ACCURACY = "accuracy"  # name of the figure that proves the answer
# Figures show the first runs only: there are no more distinguishable colours. The table lists every run.
MOST_RUNS = 8
_MOST_ATTRIBUTES = 14
# Disagreements are between the best runs, as many as have room for their probabilities below an image.
_MOST_DISAGREEING_RUNS = 3
_MOST_DISAGREEMENTS = 24


def comparison_figures(comparison: Comparison, load_images: LoadImages | None = None) -> dict[str, Figure]:
    """Every figure for which the runs have data, by file name.

    Args:
        comparison: result of `compare`.
        load_images: function that loads the images of the sheet of disagreements; None omits the sheet.
    """
    runs = comparison.runs[:MOST_RUNS]
    note, part = _note(comparison), TITLES[comparison.part].capitalize()
    figures: dict[str, Figure | None] = {
        ACCURACY: accuracy_figure(comparison, note),
        "accuracy_per_epoch": accuracy_per_epoch(runs, note),
        "roc": roc_curves(runs, comparison.classes, note, part),
        "reliability": reliability_diagrams(runs, comparison.classes, note, part),
        "confusion_matrices": confusion_matrices(runs, note, part),
        "accuracy_against_latency": accuracy_against_latency(runs, note, part),
        "accuracy_by_attribute": accuracy_by_attribute(runs, note, part),
        "disagreements": None if load_images is None else disagreements(comparison, load_images, note),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def accuracy_per_epoch(runs: Sequence[ComparedRun], note: str | None = None) -> Figure | None:
    """Training accuracy dashed, validation accuracy solid; None if no run has a history."""
    curves = {run.number: finite_curves(run.record.history) for run in runs}
    longest = max((len(v) for known in curves.values() for k, v in known.items() if k.endswith("/accuracy")), default=0)
    if not longest:
        return None
    height = 4.6 + 0.1 * len(runs)
    figure = new_figure(9.0, height, "Accuracy per epoch: training dashed, validation solid", note)
    axes = style_axes(figure.subplots(), "epoch", "accuracy")
    for run in runs:
        labelled = False
        for split, _, line in reversed(SPLITS):
            values = curves[run.number].get(f"{split}/accuracy")
            if values is None:
                continue
            axes.plot(
                epochs(values), values, line, color=colour(run.number - 1), linewidth=1.8 if split == "val" else 1.2,
                marker=marker(run.number - 1) if split == "val" and longest <= 30 else "", markersize=4.5,
                label=None if labelled else plain(run.label),
            )  # fmt: skip
            labelled = True
    whole_epochs(axes, longest)
    percent_axis(axes.yaxis)
    legend_below(axes, columns=2)
    return figure


def roc_curves(
    runs: Sequence[ComparedRun], classes: Sequence[str], note: str | None = None, part: str = "Test"
) -> Figure | None:
    """None if no run has images of both classes."""
    drawable = [run for run in runs if not np.isnan(run.metrics["auroc"].value)]
    if not drawable:
        return None
    figure = new_figure(6.0, 5.6, f"{part} ROC and its area (AUC)", note)
    axes = roc_axes(figure.subplots(), _named_on_axes(drawable, classes))
    for run in drawable:
        x, y = _roc_of(run.predictions)
        name = f"{plain(run.label)}: {run.metrics['auroc'].value:.3f}"
        axes.plot(x, y, color=colour(run.number - 1), linewidth=1.8, label=name)
    legend(axes, loc="lower right")
    return figure


def _named_on_axes(runs: Sequence[ComparedRun], classes: Sequence[str]) -> Sequence[str]:
    """The two classes that axes name; none if a run has more."""
    return () if any(run.predictions.classes for run in runs) else classes


def _roc_of(table: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates; of more than two classes, the mean over the classes against the rest."""
    if not table.classes:
        x, y, _ = roc_points(table.labels, table.probabilities)
        return x, y
    grid = np.linspace(0.0, 1.0, 201)
    present = np.unique(table.labels).tolist()
    curves = [roc_points(table.labels == k, table.probabilities[:, k])[:2] for k in present]
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)


def reliability_diagrams(
    runs: Sequence[ComparedRun], classes: Sequence[str], note: str | None = None, part: str = "Test"
) -> Figure:
    figure = new_figure(6.0, 5.0 + 0.2 * len(runs), f"{part} reliability and calibration error", note)
    axes = reliability_axes(figure.subplots(), _named_on_axes(runs, classes))
    for run in runs:
        name = f"{plain(run.label)}: {percent(run.metrics['calibration_error'].value)}"
        table = run.predictions
        draw_reliability(axes, table.labels, table.probabilities, colour(run.number - 1), name)
    legend_below(axes)
    return figure


def confusion_matrices(runs: Sequence[ComparedRun], note: str | None = None, part: str = "Test") -> Figure:
    most = max(len(run.classes) for run in runs)
    n_columns = min(len(runs), 3 if most <= 8 else 2)
    n_rows = -(-len(runs) // n_columns)
    side = 3.7 if most <= 4 else min(8.0, 3.7 + 0.3 * (most - 4))
    figure = new_figure(max(4.9, side * n_columns), 0.5 + side * n_rows, f"{part} confusion matrices", note)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, run in zip(grid, runs, strict=False):
        name = run.label if len(run.label) <= 24 else run.label[:23] + "…"
        title = f"{plain(name)}: {percent(run.metrics['accuracy'].value)}"
        draw_confusion_matrix(axes, run.predictions.confusion_matrix, run.classes, title)
    for axes in grid[len(runs) :]:
        axes.set_axis_off()
    return figure


def accuracy_against_latency(runs: Sequence[ComparedRun], note: str | None = None, part: str = "Test") -> Figure | None:
    """With the Pareto front: the runs that no other run beats in both. None if no latency is known."""
    timed = [run for run in runs if run.record.costs.latency_ms is not None]
    if not timed:
        return None
    figure = new_figure(7.5, 4.6 + 0.1 * len(timed), f"{part} accuracy against latency, with 95% intervals", note)
    axes = style_axes(figure.subplots(), "milliseconds per image on this machine", "accuracy")
    latencies = [run.record.costs.latency_ms or 0.0 for run in timed]
    widest = 1.15 * max(latencies)
    points = [(latency, run.metrics["accuracy"].value) for latency, run in zip(latencies, timed, strict=True)]
    front = [points[i] for i in pareto_front(points)]
    front.append((widest, front[-1][1]))
    axes.step(*zip(*front, strict=True), where="post", color=QUIET, linewidth=1.0, linestyle=":", label="Pareto front")
    for run, latency in zip(timed, latencies, strict=True):
        accuracy = run.metrics["accuracy"]
        reach = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
        axes.errorbar(
            [latency], [accuracy.value], yerr=reach, linestyle="", elinewidth=1.2, label=plain(run.label),
            color=colour(run.number - 1), marker=marker(run.number - 1), markersize=7.0, capsize=0,
        )  # fmt: skip
        axes.annotate(f"{run.number}", (latency, accuracy.value), (7, 4), textcoords="offset points",
                      fontsize=SMALL_SIZE, color=INK)  # fmt: skip
    axes.set_xlim(0.0, widest)
    percent_axis(axes.yaxis)
    legend_below(axes, columns=2)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the (cost, value) points that no other point beats in both, in order of cost.

    Example:
        >>> pareto_front([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8)])
        [0, 1]
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def accuracy_by_attribute(runs: Sequence[ComparedRun], note: str | None = None, part: str = "Test") -> Figure | None:
    """One line per attribute, with a filled marker for images that have it and an empty one for the others.

    None if no attribute is known.
    """
    known = {run.number: {one.name: one for one in run.predictions.attribute_accuracies()} for run in runs}
    names = sorted({name for by_name in known.values() for name in by_name})
    if not names:
        return None
    gap = {n: np.mean([one[n].difference for one in known.values() if n in one]) for n in names}
    shown = sorted(names, key=lambda name: (gap[name], name))[:_MOST_ATTRIBUTES]
    height = 1.5 + 0.24 * len(shown) * (1 + 0.35 * len(runs))
    figure = new_figure(
        8.0, max(2.8, height), f"{part} accuracy where an attribute is present (filled) or absent", note
    )
    axes = style_axes(figure.subplots(), "accuracy", grid="x")
    for position, run in enumerate(runs):
        for line, name in enumerate(shown):
            one = known[run.number].get(name)
            if one is None:
                continue
            y = line + 0.7 * ((position + 0.5) / len(runs) - 0.5)
            color = colour(run.number - 1)
            axes.plot([one.absent, one.present], [y, y], color=color, linewidth=1.2, alpha=0.5)
            shape: dict[str, Any] = {"marker": marker(run.number - 1), "color": color, "markersize": 6, "linestyle": ""}
            axes.plot([one.absent], [y], markerfacecolor="white", **shape)
            axes.plot([one.present], [y], label=plain(run.label) if line == 0 else None, **shape)
    counts = {name: next(one[name].n_present for one in known.values() if name in one) for name in shown}
    labels = [f"{plain(name.replace('_', ' '))} (n={counts[name]:,})" for name in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=SMALL_SIZE, color=QUIET)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    percent_axis(axes.xaxis)
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def disagreements(comparison: Comparison, load_images: LoadImages, note: str | None = None) -> Figure | None:
    """Images on which the best runs of the largest group disagree, the largest difference in probability first.

    None if the group has a single run, or if its best runs agree on every image.
    """
    numbers = comparison.groups[0].numbers[:_MOST_DISAGREEING_RUNS]
    runs = [comparison.runs[number - 1] for number in numbers]
    table, classes = runs[0].predictions, runs[0].classes
    many = bool(table.classes)
    if many:
        probabilities = np.stack([of_true_class(table.labels, run.predictions.probabilities) for run in runs])
    else:
        probabilities = np.stack([run.predictions.probabilities for run in runs])
    difference = probabilities.max(axis=0) - probabilities.min(axis=0)
    predicted = np.stack([run.predictions.predicted for run in runs])
    disagree = (predicted != predicted[0]).any(axis=0)
    order = np.argsort(-difference, kind="stable")
    shown = order[disagree[order]][:_MOST_DISAGREEMENTS]
    if not len(shown):
        return None
    captions = []
    for i in shown:
        by_run = [f"#{run.number} {probabilities[k, i]:.2f}".replace(" 0.", " .") for k, run in enumerate(runs)]
        captions.append(f"{classes[table.labels[i]]}\n{'  '.join(by_run)}")
    names = [table.names[i] for i in shown]
    title = (
        f"{len(shown)} of {np.count_nonzero(disagree):,} images on which "
        f"{' and '.join(f'#{run.number}' for run in runs)} disagree "
        f"(true class; {'its probability by' if many else f'p({classes[1]}) of'} each)"
    )
    return image_sheet(load_images(names), captions, names, title, note=note)


def _note(comparison: Comparison) -> str | None:
    sentences = []
    if comparison.synthetic:
        sentences.append(SYNTHETIC_NOTE)
    if len(comparison.runs) > MOST_RUNS:
        sentences.append(f"The first {MOST_RUNS} of {len(comparison.runs)} runs.")
    if len(comparison.groups) > 1:
        sentences.append("Runs of different groups are not comparable.")
    return " ".join(sentences) or None
