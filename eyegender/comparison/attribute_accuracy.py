"""Where do the models fail? Accuracy on the pictures that have an attribute, against all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eyegender.plots.style import QUIET, SMALL_SIZE, colour, dress, legend, marker, new_figure, percent_axis, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from eyegender.comparison.comparison import Row

# An accuracy on fewer pictures says nothing.
_FEWEST = 20
_MOST_ATTRIBUTES = 14


class AttributeAccuracy(NamedTuple):
    """Accuracy with and without an attribute, in 0..1, and how many pictures have it."""

    name: str
    present: float
    absent: float
    n_present: int


def by_attribute(row: Row) -> list[AttributeAccuracy]:
    """One per attribute that at least 20 pictures have and 20 lack, the largest loss of accuracy first.

    The attribute that is the label itself is left out: the confusion matrix tells of it.
    """
    right, label = row.predictions.right, row.predictions.labels == 1
    found = []
    for name, values in row.predictions.attributes.items():
        has = values > 0
        if np.array_equal(has, label):
            continue
        if min(has.sum(), (~has).sum()) >= _FEWEST:
            found.append(AttributeAccuracy(name, float(right[has].mean()), float(right[~has].mean()), int(has.sum())))
    return sorted(found, key=lambda one: (one.present - one.absent, one.name))


def attribute_accuracy(rows: Sequence[Row], note: str | None = None) -> Figure | None:
    """A line per attribute, a filled mark per run with it and an empty one without; None where none is known."""
    known = {row.number: {one.name: one for one in by_attribute(row)} for row in rows}
    names = sorted({name for found in known.values() for name in found})
    if not names:
        return None
    gap = {n: np.mean([f[n].present - f[n].absent for f in known.values() if n in f]) for n in names}
    shown = sorted(names, key=lambda name: (gap[name], name))[:_MOST_ATTRIBUTES]
    height = 1.5 + 0.24 * len(shown) * (1 + 0.35 * len(rows))
    figure = new_figure(8.0, max(2.8, height), "Test accuracy where an attribute is present (filled) or absent", note)
    axes = dress(figure.subplots(), "accuracy", grid="x")
    for row_place, row in enumerate(rows):
        for place, name in enumerate(shown):
            one = known[row.number].get(name)
            if one is None:
                continue
            y = place + 0.7 * ((row_place + 0.5) / len(rows) - 0.5)
            color = colour(row.number - 1)
            axes.plot([one.absent, one.present], [y, y], color=color, linewidth=1.2, alpha=0.5)
            shape: dict[str, Any] = {"marker": marker(row.number - 1), "color": color, "markersize": 6, "linestyle": ""}
            axes.plot([one.absent], [y], markerfacecolor="white", **shape)
            axes.plot([one.present], [y], label=plain(row.label) if place == 0 else None, **shape)
    counts = {name: next(found[name].n_present for found in known.values() if name in found) for name in shown}
    labels = [f"{plain(name.replace('_', ' '))} (n={counts[name]:,})" for name in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=SMALL_SIZE, color=QUIET)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    percent_axis(axes.xaxis)
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
