"""Reliability diagrams: predicted probabilities against observed frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.models.intervals import share_interval
from eyegender.models.metrics import (
    CALIBRATION_BINS,
    calibration_bins,
    confidences,
    finite_predictions,
    metrics_from_predictions,
    predicted_labels,
)
from eyegender.plots.style import BLUE, FAINT, PALETTE, QUIET, colour, legend, new_figure, percent, plain, style_axes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

_MOST_LINES = 30  # more would hide each other and the line of the model


def reliability_diagram(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str] = ("female", "male"),
    split: str = "test",
    note: str | None = None,
    persons: Sequence[str] | NDArray[Any] | None = None,
) -> Figure:
    """Share of label 1 in each of 15 bins of probability, with 95% intervals, and the number of images in each bin.

    Args:
        labels: true class of each image, shape (N,).
        probabilities: predicted probability of label 1, shape (N,), or of each of K classes, shape (N, K), which gives
            one line for the predicted class and one for each class; NaN are left out and counted in the title.
        classes: class names in label order.
        split: name of the split, for the title.
        note: what the reader must know, for example that the data is synthetic.
        persons: person on each of the N images, for the intervals; None if unknown.

    Raises:
        ValueError: there are no images, or the labels or probabilities are invalid.
    """
    truth, scores, missing = finite_predictions(labels, probabilities)
    error = metrics_from_predictions(truth, scores)["calibration_error"]
    title = f"{split.capitalize()} calibration error {percent(error)} (n={len(truth):,}{missing})"
    figure = new_figure(5.2, 5.6, title, note)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    reliability_axes(upper, classes)
    name = "this model, 95% interval"
    if scores.ndim > 1:
        _draw_classes(upper, truth, scores, classes)
        truth, scores, name = *_of_predicted(truth, scores), "predicted class, 95% interval"
    draw_reliability(upper, truth, scores, BLUE, name)
    known = ~np.isnan(np.asarray(probabilities, dtype=np.float64)).reshape(len(np.asarray(labels)), -1).any(axis=1)
    _draw_intervals(upper, truth, scores, None if persons is None else np.asarray(persons)[known])
    legend(upper, loc="upper left")
    style_axes(lower, _probability_of(classes), "images", grid="y")
    lower.hist(scores, bins=np.linspace(0.0, 1.0, CALIBRATION_BINS + 1), color=BLUE, rwidth=0.9)
    upper.set_xlabel("")
    return figure


def reliability_axes(axes: Axes, classes: Sequence[str]) -> Axes:
    """Draw the unit square with the line of perfect calibration."""
    share = f"share that is {classes[1]}" if len(classes) == 2 else "share that is of this class"
    style_axes(axes, _probability_of(classes), share)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":", label="perfectly calibrated")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02))
    return axes


def draw_reliability(
    axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float64], color: str, name: str
) -> None:
    """Draw one model on given axes: mean probability against share of label 1 in each bin that has images.

    Of K classes, it is the probability of the predicted class against the share of correct predictions.
    """
    labels, probabilities = _of_predicted(labels, probabilities)
    bins = list(_filled_bins(probabilities))
    x = [float(probabilities[inside].mean()) for inside in bins]
    y = [float(labels[inside].mean()) for inside in bins]
    axes.plot(x, y, "-o", color=color, linewidth=1.6, markersize=5, markeredgecolor="white", label=name)


def _probability_of(classes: Sequence[str]) -> str:
    return f"predicted probability of {classes[1]}" if len(classes) == 2 else "predicted probability of a class"


def _of_predicted(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of K classes: whether the prediction is correct, and its probability; of two, the arguments themselves."""
    if probabilities.ndim == 1:
        return labels, probabilities
    return (predicted_labels(probabilities) == labels).astype(np.int64), confidences(probabilities)


def _draw_classes(
    axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """Thin lines for each class against the rest; the legend names the most frequent ones, of many classes the only."""
    frequent = np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable").tolist()
    named = frequent[: len(PALETTE) - 1]
    for k in reversed(frequent if len(classes) <= _MOST_LINES else named):
        own = (labels == k).astype(np.int64)
        bins = list(_filled_bins(probabilities[:, k]))
        x, y = ([float(values[inside].mean()) for inside in bins] for values in (probabilities[:, k], own))
        color = colour(1 + named.index(k)) if k in named else FAINT
        label = plain(classes[k]) if k in named else None
        axes.plot(x, y, color=color, linewidth=0.9, alpha=0.8, label=label)


def _draw_intervals(
    axes: Axes,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    persons: NDArray[Any] | None,
) -> None:
    for inside in _filled_bins(probabilities):
        one = share_interval(labels[inside] == 1, None if persons is None else persons[inside])
        reach = [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
        x = float(probabilities[inside].mean())
        axes.errorbar([x], [one.value], yerr=reach, fmt="none", ecolor=BLUE, elinewidth=1.0, alpha=0.55)


def _filled_bins(probabilities: NDArray[np.float64]) -> Iterator[NDArray[np.bool_]]:
    # In the calibration error, a probability of exactly 1 has its own bin, as in torchmetrics. The figure shows it in
    # the last bin.
    bins = np.minimum(calibration_bins(probabilities), CALIBRATION_BINS - 1)
    for one in np.unique(bins):
        yield bins == one
