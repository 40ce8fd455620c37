"""A chart as a figure of plotly.js, in plain data."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from eyegender.plots.style import FAINT, GRID, INK, QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.plots.chart import Axis, Chart, Series

_POINTS = 4 / 3  # pixels per point of 1/72 inch
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


def plotly_script() -> str:
    """The text of plotly.js, 4.8 MB. It contains no `</script`, so that a page can contain it as it is.

    Raises:
        ValueError: it does, in a version of plotly that this was not written for.
    """
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("plotly.js must not contain the end of a script")
    return script


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """`data` and `layout` for `Plotly.newPlot`; every text from a user is escaped, because plotly.js reads HTML."""
    data = [trace for series in chart.series for trace in _traces(series)]
    shown = sum(bool(series.name) for series in chart.series)
    layout: dict[str, Any] = {
        "font": {"family": _FONT, "size": 12, "color": INK},
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "height": 440 if chart.wide else 380,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "namelength": -1},
        "showlegend": shown > 0,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 12}},
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y) | _room_around_one_value(chart),
        "annotations": [
            {
                "x": x,
                "y": y,
                "text": _safe(text),
                "showarrow": False,
                "font": {"size": 11, "color": QUIET},
                "bgcolor": "rgba(255,255,255,0.7)",
                "borderpad": 0,
            }
            for x, y, text in chart.texts
        ],
    }
    return {"data": data, "layout": layout}


def _traces(series: Series) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "type": "scatter",
        "name": _safe(series.name),
        "showlegend": bool(series.name),
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "opacity": series.opacity,
    }
    # Two numbers and, if there is one, the text of the point.
    if series.texts:
        common |= {"text": [_safe(text) for text in series.texts], "hovertemplate": "%{text}<extra></extra>"}
    else:
        common |= {"hoverinfo": "skip"}
    shape = "hv" if series.kind in ("steps", "band") and series.dash == "solid" else "linear"
    if series.kind == "band":
        edge = {"mode": "lines", "line": {"width": 0, "shape": shape}, "hoverinfo": "skip", "opacity": 1}
        lower = common | edge | {"y": _numbers(series.low), "showlegend": False}
        return [lower, common | edge | {"fill": "tonexty", "fillcolor": _rgba(series.colour, series.opacity)}]
    if series.kind == "points":
        line = {"width": 0.5, "color": "white"} if series.shape != "x" else {"width": 0}
        marker = {"size": series.size * _POINTS, "color": series.colour, "symbol": series.shape, "line": line}
        return [common | {"mode": "markers", "marker": marker}]
    line = {"color": series.colour, "width": series.size * _POINTS, "dash": series.dash, "shape": shape}
    return [common | {"mode": "lines", "line": line, "connectgaps": False}]


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": {"text": _safe(axis.label), "standoff": 8},
        "gridcolor": GRID,
        "linecolor": FAINT,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": QUIET},
    }
    if axis.log:
        found |= {"type": "log", "dtick": "D2", "exponentformat": "none"}
    else:
        found["type"] = "linear"  # texts that look like dates or numbers are neither
    if axis.ticks:
        found |= {
            "tickmode": "array",
            "tickvals": [position for position, _ in axis.ticks],
            "ticktext": [_safe(text if len(text) <= 24 else f"{text[:23]}…") for _, text in axis.ticks],
        }
    elif axis.whole and not axis.log:
        found["tickformat"] = ",d"
    if axis.limits is not None:
        low, high = axis.limits
        found["range"] = [math.log10(low), math.log10(high)] if axis.log else [low, high]
    return found


def _room_around_one_value(chart: Chart) -> dict[str, Any]:
    """The range of the vertical axis if all heights are equal, for which plotly.js would show one above and below."""
    heights = {value for series in chart.series for value in (*series.y, *series.low) if math.isfinite(value)}
    if chart.y.limits is not None or chart.y.log or len(heights) != 1:
        return {}
    [value] = heights
    room = 0.1 * abs(value) or 0.1
    return {"range": [value - room, value + room]}


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Six significant digits; JSON has neither NaN nor infinity."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _safe(text: str) -> str:
    return html.escape(text, quote=False)


def _rgba(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
