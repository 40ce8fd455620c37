"""Contact sheets of eyes with a caption each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eyegender.models.binary_metrics import finite
from eyegender.core.errors import one_line
from eyegender.plots.style import INK, QUIET, SMALL_SIZE, VERMILION, dress, new_figure, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

_COLUMNS = 6
_LONGEST_NAME = 20


def most_wrong_sheet(
    pixels: NDArray[np.uint8] | Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    labels: ArrayLike,
    probabilities: ArrayLike,
    names: Sequence[str],
    *,
    k: int = 18,
    classes: Sequence[str] = ("female", "male"),
    split: str = "test",
    note: str | None = None,
) -> Figure:
    """The k pictures that the model got wrong with the most confidence, the worst first.

    A model without a wrong picture shows the ones it was least sure of. Pictures whose probability is NaN are left out.

    Args:
        pixels: uint8 of shape (N, C, H, W), one or three channels, or a function from positions (K,) in 0..N-1 to their
            pictures (K, C, H, W), so that only those that are shown are read.
        labels: 0/1, shape (N,).
        probabilities: of label 1, shape (N,).
        names: N names, shortened in the middle where they are long.
        k: 1 or more.
        classes: the names in label order.
        split: which pictures, for the title.
        note: what the reader must know, such as that the data is synthetic.

    Raises:
        ValueError: no pictures, other shapes, or k below 1.
    """
    truth, scores, missing = finite(labels, probabilities)
    n = len(np.asarray(labels))
    count = n if callable(pixels) else len(pixels)
    if len(names) != n or count != n:
        raise ValueError(f"pixels and names must be {n} like the labels, got {count} and {len(names)}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    places = np.flatnonzero(~np.isnan(np.asarray(probabilities, dtype=np.float64)))
    distance = np.abs(truth - scores)
    wrong = (scores > 0.5) != (truth == 1)
    order = np.argsort(-distance, kind="stable")
    worst = order[wrong[order]][:k] if wrong.any() else order[:k]
    which = f"n={len(truth):,}{missing}"
    if wrong.any():
        title = f"{len(worst)} most confident of {int(wrong.sum()):,} mistakes, {split} ({which})"
    else:
        title = f"No mistake, {split} ({which}): the {len(worst)} it was least sure of"
    # Two lines: two long class names side by side would run into the next picture.
    captions = [f"{classes[truth[i]]}\np({classes[1]}) {_two_digits(scores[i])}" for i in worst]
    shown = places[worst]
    pictures = pixels(shown) if callable(pixels) else pixels[shown]
    shown_names = [names[i] for i in shown]
    return picture_sheet(pictures, captions, shown_names, title, note=note, alarming=wrong[worst].tolist())


def picture_sheet(
    pixels: NDArray[np.uint8],
    captions: Sequence[str],
    names: Sequence[str],
    title: str,
    *,
    note: str | None = None,
    alarming: Sequence[bool] | None = None,
    fewest_columns: int = 3,
) -> Figure:
    """Pictures (K, C, H, W) in rows of six, the name above, a caption below; `alarming` captions are coloured.

    A sheet of few pictures is `fewest_columns` wide, for the sake of its title.
    """
    if pixels.ndim != 4 or not len(pixels):
        raise ValueError(f"a sheet needs pictures (K, C, H, W), at least one, got shape {pixels.shape}")
    columns = min(_COLUMNS, max(fewest_columns, len(pixels)))
    rows = -(-len(pixels) // columns)
    figure = new_figure(
        1.62 * columns,
        0.5 + (2.0 + 0.14 * any("\n" in one for one in captions)) * rows + (0.25 if note else 0.0),
        title,
        note,
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.ravel()):
        if place >= len(pixels):
            axes.set_axis_off()
            continue
        dress(axes, grid="none")
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_visible(False)
        axes.imshow(np.squeeze(pixels[place].transpose(1, 2, 0)), cmap="gray", vmin=0, vmax=255)
        axes.set_title(plain(_shortened(one_line(names[place]))), fontsize=SMALL_SIZE, color=QUIET, pad=3)
        alarm = alarming is not None and alarming[place]
        axes.set_xlabel(plain(captions[place]), fontsize=SMALL_SIZE, color=VERMILION if alarm else INK, labelpad=3)
    return figure


def _two_digits(probability: float) -> str:
    """0.97; never 1.00 or 0.00 for a probability that is neither."""
    if 0.995 <= probability < 1:
        return ">0.99"
    if 0 < probability < 0.005:
        return "<0.01"
    return f"{probability:.2f}"


def _shortened(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
