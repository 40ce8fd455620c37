"""Accuracy and loss per epoch, training dashed and validation solid, as in figures 6 and 7 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from eyegender.plots.style import BLUE, INK, QUIET, VERMILION, legend, new_figure, percent, percent_axis, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    # `train/accuracy`, `val/loss` and so on: one sequence of values per metric, or one mapping of metrics per epoch.
    History = Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]]

SPLITS = (("train", "training", "--"), ("val", "validation", "-"))


def learning_curves(history: History, note: str | None = None) -> Figure:
    """Two panels: accuracy with the best epoch marked, and loss.

    Args:
        history: `train/accuracy`, `val/accuracy`, `train/loss` and `val/loss` in order of epochs: one sequence of
            values per metric, or one mapping of metrics per epoch. Any of them may be missing or shorter; NaN and
            infinity leave a gap. The best epoch is the first one with the highest `val/accuracy`, or `train/accuracy`
            if there is no validation.
        note: what the reader must know, for example that the data is synthetic.

    Raises:
        ValueError: none of the four has a value.
    """
    known = finite_curves(history)
    wanted = [f"{split}/{metric}" for split, _, _ in SPLITS for metric in ("accuracy", "loss")]
    if not any(name in known for name in wanted):
        raise ValueError(f"no epoch to draw: history needs one of {', '.join(wanted)}, got {sorted(known)}")

    monitored = known.get("val/accuracy", known.get("train/accuracy"))
    best = None if monitored is None else int(np.nanargmax(monitored))
    figure = new_figure(9.0, 3.9, _title(known, monitored, best), note)
    accuracy, loss = figure.subplots(1, 2)
    _panel(style_axes(accuracy, "epoch", "accuracy"), known, "accuracy", BLUE, best)
    percent_axis(accuracy.yaxis)
    _panel(style_axes(loss, "epoch", "loss"), known, "loss", VERMILION, best)
    losses = [np.nanmax(values) for name, values in known.items() if name.endswith("/loss")]
    loss.set_ylim(0.0, 1.08 * max([*losses, 1e-9]))
    return figure


def finite_curves(history: History) -> dict[str, NDArray[np.float64]]:
    """The curves that have at least one finite value, with NaN for epochs that are missing or diverged."""
    if not isinstance(history, Mapping):
        names = dict.fromkeys(name for row in history for name in row)
        history = {name: [row.get(name, np.nan) for row in history] for name in names}
    curves = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    gaps = {name: np.where(np.isfinite(values), values, np.nan) for name, values in curves.items()}
    return {name: values for name, values in gaps.items() if len(values) and not np.isnan(values).all()}


def epochs(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Epoch numbers from 1."""
    return np.arange(1, len(values) + 1)


def whole_epochs(axes: Axes, count: int) -> None:
    """Set ticks at whole epochs only, with room around a single epoch."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(1.5, count + 0.5) if count < 12 else count + 1)


def _title(known: Mapping[str, NDArray[np.float64]], monitored: NDArray[np.float64] | None, best: int | None) -> str:
    if monitored is None or best is None:
        return f"Loss over {max(len(values) for values in known.values())} epochs"
    which = "Validation" if "val/accuracy" in known else "Training"
    if len(monitored) == 1:
        return f"{which} accuracy {percent(monitored[0])} after one epoch"
    return f"{which} accuracy {percent(monitored[best])} at its best, epoch {best + 1} of {len(monitored)}"


def _panel(axes: Axes, known: Mapping[str, NDArray[np.float64]], metric: str, color: str, best: int | None) -> None:
    longest = 1
    for split, label, line in SPLITS:
        values = known.get(f"{split}/{metric}")
        if values is None:
            continue
        longest = max(longest, len(values))
        dot = "o" if len(values) <= 30 else ""
        face = color if split == "val" else "white"
        axes.plot(
            epochs(values),
            values,
            line,
            color=color,
            linewidth=1.8,
            marker=dot,
            markersize=4,
            markerfacecolor=face,
            label=label,
        )
    whole_epochs(axes, longest)
    if best is not None and longest > 1:
        axes.axvline(best + 1, color=QUIET, linewidth=1.1, linestyle=":", zorder=1.5, label="best epoch")
    if axes.get_legend_handles_labels()[1]:
        legend(axes, loc="best")
    else:
        axes.text(0.5, 0.5, f"no {metric} was logged", transform=axes.transAxes, ha="center", color=INK)
