"""How well the probabilities rank, at every threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as roc_points

from eyegender.models.binary_metrics import finite
from eyegender.models.binary_metrics import THRESHOLD
from eyegender.plots.style import BLUE, INK, QUIET, SMALL_SIZE, TEXT_SIZE, dress, new_figure, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def roc_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str] = ("female", "male"),
    split: str = "test",
    note: str | None = None,
) -> Figure:
    """The ROC with its AUC and the point at threshold 0.5; with one class only, axes that say why there is none.

    Args:
        labels: 0/1, shape (N,).
        probabilities: of label 1, shape (N,); NaN are left out and counted in the title.
        classes: the names in label order.
        split: which pictures, for the title.
        note: what the reader must know, such as that the data is synthetic.

    Raises:
        ValueError: no pictures, or not labels and probabilities.
    """
    truth, scores, missing = finite(labels, probabilities)
    which = split.capitalize()
    if truth.min() == truth.max():
        figure = new_figure(
            5.2, 4.9, f"{which} ROC undefined: only {classes[truth[0]]} (n={len(truth):,}{missing})", note
        )
        axes = roc_axes(figure.subplots(), classes)
        axes.text(0.5, 0.5, "a ROC needs both classes", ha="center", va="center", color=INK, fontsize=TEXT_SIZE)
        return figure
    area = float(roc_auc_score(truth, scores))
    figure = new_figure(5.2, 4.9, f"{which} AUC {area:.3f} (n={len(truth):,}{missing})", note)
    axes = roc_axes(figure.subplots(), classes)
    false_alarms, hits, _ = roc_points(truth, scores)
    axes.plot(false_alarms, hits, color=BLUE, linewidth=2.0, solid_joinstyle="round")
    axes.fill_between(false_alarms, hits, color=BLUE, alpha=0.07, linewidth=0)
    says_yes = scores > THRESHOLD
    x, y = float(says_yes[truth == 0].mean()), float(says_yes[truth == 1].mean())
    axes.plot([x], [y], "o", color=BLUE, markeredgecolor="white", markersize=8, clip_on=False)
    place = (10, -14) if y > 0.25 else (10, 6)
    axes.annotate(
        f"threshold 0.5: finds {percent(y)} of {classes[1]},\nmistakes {percent(x)} of {classes[0]}",
        (x, y),
        xytext=place,
        textcoords="offset points",
        fontsize=SMALL_SIZE,
        color=INK,
        va="top" if y > 0.25 else "bottom",
        ha="left" if x < 0.5 else "right",
    )
    return figure


def roc_axes(axes: Axes, classes: Sequence[str]) -> Axes:
    """The unit square with the line of pure chance."""
    dress(
        axes, f"{classes[0]} taken for {classes[1]} (false positive rate)", f"{classes[1]} found (true positive rate)"
    )
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return axes
