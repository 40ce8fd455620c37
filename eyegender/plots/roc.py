"""Receiver operating characteristic (ROC) of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as roc_points

from eyegender.models.metrics import THRESHOLD, finite_predictions
from eyegender.plots.style import (
    BLUE,
    FAINT,
    INK,
    PALETTE,
    QUIET,
    SMALL_SIZE,
    TEXT_SIZE,
    colour,
    legend,
    new_figure,
    percent,
    plain,
    style_axes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray


def roc_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str] = ("female", "male"),
    split: str = "test",
    note: str | None = None,
) -> Figure:
    """The ROC with its AUC and the point at threshold 0.5; with a single class, empty axes that state the reason.

    Args:
        labels: true class of each image, shape (N,).
        probabilities: predicted probability of label 1, shape (N,), or of each of K classes, shape (N, K), which gives
            one curve per class against the rest; NaN are left out and counted in the title.
        classes: class names in label order.
        split: name of the split, for the title.
        note: what the reader must know, for example that the data is synthetic.

    Raises:
        ValueError: there are no images, or the labels or probabilities are invalid.
    """
    truth, scores, missing = finite_predictions(labels, probabilities)
    name = split.capitalize()
    if scores.ndim > 1:
        return _curves_of_classes(truth, scores, classes, f"{name} AUC {{}} (n={len(truth):,}{missing})", note)
    if truth.min() == truth.max():
        figure = new_figure(
            5.2, 4.9, f"{name} ROC undefined: only {classes[truth[0]]} (n={len(truth):,}{missing})", note
        )
        axes = roc_axes(figure.subplots(), classes)
        axes.text(0.5, 0.5, "a ROC needs both classes", ha="center", va="center", color=INK, fontsize=TEXT_SIZE)
        return figure
    area = float(roc_auc_score(truth, scores))
    figure = new_figure(5.2, 4.9, f"{name} AUC {area:.3f} (n={len(truth):,}{missing})", note)
    axes = roc_axes(figure.subplots(), classes)
    false_positive_rates, true_positive_rates, _ = roc_points(truth, scores)
    axes.plot(false_positive_rates, true_positive_rates, color=BLUE, linewidth=2.0, solid_joinstyle="round")
    axes.fill_between(false_positive_rates, true_positive_rates, color=BLUE, alpha=0.07, linewidth=0)
    positive = scores > THRESHOLD
    x, y = float(positive[truth == 0].mean()), float(positive[truth == 1].mean())
    axes.plot([x], [y], "o", color=BLUE, markeredgecolor="white", markersize=8, clip_on=False)
    axes.annotate(
        f"threshold 0.5: {percent(y)} of {classes[1]} found,\n{percent(x)} of {classes[0]} misclassified",
        (x, y),
        xytext=(10, -14) if y > 0.25 else (10, 6),
        textcoords="offset points",
        fontsize=SMALL_SIZE,
        color=INK,
        va="top" if y > 0.25 else "bottom",
        ha="left" if x < 0.5 else "right",
    )
    return figure


def _curves_of_classes(
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    classes: Sequence[str],
    title: str,
    note: str | None,
) -> Figure:
    """One curve per class against the rest; the legend names those with the smallest areas."""
    areas = {k: float(roc_auc_score(truth == k, scores[:, k])) for k in np.unique(truth).tolist()
             if (truth != k).any()}  # fmt: skip
    mean = f"{sum(areas.values()) / len(areas):.3f}" if areas else "undefined"
    figure = new_figure(6.4, 5.8, title.format(f"{mean}, mean of {len(classes)} classes against the rest"), note)
    axes = roc_axes(figure.subplots(), classes)
    worst = sorted(areas, key=lambda k: areas[k])
    for position, k in reversed(list(enumerate(worst))):  # the worst ones above the others
        x, y, _ = roc_points(truth == k, scores[:, k])
        named = position < len(PALETTE)
        color = colour(position) if named else FAINT
        axes.plot(x, y, color=color, linewidth=1.6, label=f"{plain(classes[k])} {areas[k]:.3f}" if named else None)
    if worst:
        handles, labels = axes.get_legend_handles_labels()
        title = "AUC" if len(worst) <= len(PALETTE) else f"AUC, the smallest of {len(worst)}"
        legend(axes, handles=handles[::-1], labels=labels[::-1], loc="lower right", title=title)
    return figure


def roc_axes(axes: Axes, classes: Sequence[str]) -> Axes:
    """Draw the unit square with the line of chance; with other than two classes, the axes name none."""
    style_axes(
        axes,
        f"{classes[0]} misclassified as {classes[1]} (false positive rate)"
        if len(classes) == 2
        else "other classes misclassified as this one (false positive rate)",
        f"{classes[1]} found (true positive rate)" if len(classes) == 2 else "this class found (true positive rate)",
    )
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return axes
