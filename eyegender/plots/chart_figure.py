"""Draws a chart with matplotlib. Import this module lazily, because it imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from eyegender.plots.style import INK, QUIET, SMALL_SIZE, legend_below, new_figure, plain, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eyegender.plots.chart import Axis, Chart, Series

_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_SHAPES = {"circle": "o", "x": "x", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P"}
_LETTERS = 18  # of a tick's text


def draw_chart(chart: Chart) -> Figure:
    """The chart as a figure of 9.6 inches, or of 5.6 inches if it is not wide."""
    figure = new_figure(*((9.6, 4.6) if chart.wide else (5.6, 3.9)), chart.title, chart.note or None)
    axes = style_axes(figure.subplots(), plain(chart.x.label), plain(chart.y.label))
    for position, series in enumerate(chart.series):
        _draw(axes, series, order=2 + position)
    _scale(axes, "x", chart.x)
    _scale(axes, "y", chart.y)
    for x, y, text in chart.texts:
        box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
        axes.text(x, y, plain(text), ha="center", va="center", fontsize=SMALL_SIZE, color=QUIET, zorder=100, bbox=box)
    names = [series.name for series in chart.series if series.name]
    if names:
        legend_below(axes, columns=min(len(names), 5 if chart.wide else 3))
    return figure


def _draw(axes: Axes, series: Series, order: int) -> None:
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    y = np.where(np.isfinite(y), y, np.nan)
    label = plain(series.name) if series.name else "_"
    if series.kind == "band":
        low = np.asarray(series.low, float)
        axes.fill_between(
            x, low, y, color=series.colour, alpha=series.opacity, linewidth=0, label=label, zorder=order,
            step="post" if series.dash == "solid" else None,
        )  # fmt: skip
    elif series.kind == "points":
        shape = _SHAPES[series.shape]
        edge = {} if shape == "x" else {"edgecolors": "white", "linewidths": 0.5}
        axes.scatter(
            x, y, s=series.size**2, c=series.colour, marker=shape, alpha=series.opacity, label=label, zorder=order,
            **edge,  # type: ignore[arg-type]
        )  # fmt: skip
    else:
        axes.plot(
            x, y, color=series.colour, linestyle=_DASHES[series.dash], linewidth=series.size, alpha=series.opacity,
            drawstyle="steps-post" if series.kind == "steps" else "default", label=label, zorder=order,
            solid_capstyle="round",
        )  # fmt: skip


def _scale(axes: Axes, which: str, axis: Axis) -> None:
    own = axes.xaxis if which == "x" else axes.yaxis
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        own.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=12))
        own.set_minor_locator(NullLocator())
        own.set_major_formatter(lambda value, _: f"{value:g}")
    if axis.ticks:
        texts = [plain(text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…") for _, text in axis.ticks]
        own.set_ticks([position for position, _ in axis.ticks], texts)
        if which == "x" and sum(map(len, texts)) > 40:
            axes.tick_params(axis="x", rotation=30)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        for label in own.get_ticklabels():
            label.set_color(INK)
    elif axis.whole and not axis.log:
        own.set_major_locator(MaxNLocator(integer=True))
    if axis.limits is not None:
        (axes.set_xlim if which == "x" else axes.set_ylim)(*axis.limits)
