"""Sheets of images with a name and a caption each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import one_line
from eyegender.models.metrics import confidences, finite_predictions, of_true_class, predicted_labels
from eyegender.plots.style import INK, QUIET, SMALL_SIZE, VERMILION, new_figure, plain, style_axes

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
    """The k misclassified images with the highest confidence, the worst first.

    If no image is misclassified, the sheet shows the images with the lowest confidence. Images whose probability is NaN
    are left out.

    Args:
        pixels: images, uint8 of shape (N, C, H, W) with one or three channels; or a function that loads the images
            (K, C, H, W) at positions (K,) in 0..N-1, so that only the shown ones are read.
        labels: true class of each image, shape (N,).
        probabilities: predicted probability of label 1, shape (N,), or of each of K classes, shape (N, K).
        names: N names; long ones are shortened in the middle.
        k: number of images to show, 1 or more.
        classes: class names in label order.
        split: name of the split, for the title.
        note: what the reader must know, for example that the data is synthetic.

    Raises:
        ValueError: there are no images, the shapes differ, or k is below 1.
    """
    truth, scores, missing = finite_predictions(labels, probabilities)
    n = len(np.asarray(labels))
    count = n if callable(pixels) else len(pixels)
    if len(names) != n or count != n:
        raise ValueError(f"pixels and names must be {n} like the labels, got {count} and {len(names)}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    positions = np.flatnonzero(~np.isnan(np.asarray(probabilities, dtype=np.float64)).reshape(n, -1).any(axis=1))
    distance = np.abs(truth - scores) if scores.ndim == 1 else 1 - of_true_class(truth, scores)
    predicted = predicted_labels(scores)
    wrong = predicted != truth
    order = np.argsort(-distance, kind="stable")
    worst = order[wrong[order]][:k] if wrong.any() else order[:k]
    count_text = f"n={len(truth):,}{missing}"
    if wrong.any():
        title = f"{len(worst)} most confident of {int(wrong.sum()):,} errors, {split} set ({count_text})"
    else:
        title = f"No errors, {split} set ({count_text}): the {len(worst)} least confident images"
    # Two lines, because two long class names on one line would overlap the next image.
    if scores.ndim == 1:
        captions = [f"{classes[truth[i]]}\np({classes[1]}) {_two_digits(scores[i])}" for i in worst]
    else:
        sure = confidences(scores)
        captions = [f"{classes[truth[i]]}\np({classes[predicted[i]]}) {_two_digits(sure[i])}" for i in worst]
    shown = positions[worst]
    images = pixels(shown) if callable(pixels) else pixels[shown]
    shown_names = [names[i] for i in shown]
    return image_sheet(images, captions, shown_names, title, note=note, highlighted=wrong[worst].tolist())


def image_sheet(
    pixels: NDArray[np.uint8],
    captions: Sequence[str],
    names: Sequence[str],
    title: str,
    *,
    note: str | None = None,
    highlighted: Sequence[bool] | None = None,
    fewest_columns: int = 3,
) -> Figure:
    """Images (K, C, H, W) in rows of six, each with its name above and a caption below.

    Captions of `highlighted` images are coloured. A sheet of few images is `fewest_columns` wide, so that its title
    fits.
    """
    if pixels.ndim != 4 or not len(pixels):
        raise ValueError(f"a sheet needs images (K, C, H, W), at least one, got shape {pixels.shape}")
    columns = min(_COLUMNS, max(fewest_columns, len(pixels)))
    rows = -(-len(pixels) // columns)
    figure = new_figure(
        1.62 * columns,
        0.5 + (2.0 + 0.14 * any("\n" in one for one in captions)) * rows + (0.25 if note else 0.0),
        title,
        note,
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(grid.ravel()):
        if i >= len(pixels):
            axes.set_axis_off()
            continue
        style_axes(axes, grid="none")
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_visible(False)
        axes.imshow(np.squeeze(pixels[i].transpose(1, 2, 0)), cmap="gray", vmin=0, vmax=255)
        axes.set_title(plain(_shortened(one_line(names[i]))), fontsize=SMALL_SIZE, color=QUIET, pad=3)
        is_highlighted = highlighted is not None and highlighted[i]
        axes.set_xlabel(plain(captions[i]), fontsize=SMALL_SIZE, color=VERMILION if is_highlighted else INK, labelpad=3)
    return figure


def _two_digits(probability: float) -> str:
    """A probability such as 0.97; 1.00 and 0.00 stand for exactly 1 and 0 only."""
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
