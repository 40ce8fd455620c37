"""The pictures on which the models of one group disagree most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eyegender.plots.image_sheet import picture_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from eyegender.comparison.comparison import Comparison, Row

# From K picture names to their pixels, uint8 (K, C, H, W).
Pictures = Callable[[Sequence[str]], NDArray[np.uint8]]

_MOST_PICTURES = 24
# As many probabilities as fit under a picture.
_MOST_RUNS = 3


def disagreements_sheet(comparison: Comparison, pictures: Pictures, note: str | None = None) -> Figure | None:
    """Pictures that some of the up to three best runs of the largest group get right and others wrong, widest first.

    None where the group has one run, or where all its runs agree on every picture.
    """
    group = comparison.groups[0]
    rows = [comparison.rows[number - 1] for number in group.numbers[:_MOST_RUNS]]
    says = np.stack([row.predictions.probabilities for row in rows])
    apart = says.max(axis=0) - says.min(axis=0)
    male_for = np.count_nonzero(says > 0.5, axis=0)
    split = (male_for > 0) & (male_for < len(rows))
    order = np.argsort(-apart, kind="stable")
    shown = order[split[order]][:_MOST_PICTURES]
    if not len(shown):
        return None
    table = rows[0].predictions
    captions = []
    for i in shown:
        told = [f"#{row.number} {says[k, i]:.2f}".replace(" 0.", " .") for k, row in enumerate(rows)]
        captions.append(f"{comparison.classes[table.labels[i]]}\n{'  '.join(told)}")
    names = [table.names[i] for i in shown]
    title = (
        f"{len(shown)} of {np.count_nonzero(split):,} pictures on which {_listed(rows)} disagree "
        f"(true class; p({comparison.classes[1]}) of each)"
    )
    return picture_sheet(pictures(names), captions, names, title, note=note)


def _listed(rows: Sequence[Row]) -> str:
    return " and ".join(f"#{row.number}" for row in rows)
