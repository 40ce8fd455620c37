"""A chart as data: drawn for paper by `chart_figure`, and for the screen by `interactive`, with the same content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from eyegender.plots.style import BLUE

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["line", "steps", "points", "band"]
Dash = Literal["solid", "dash", "dot"]
Shape = Literal["circle", "x", "square", "diamond", "triangle-up", "cross"]


@dataclass(frozen=True)
class Series:
    """Points that share a style.

    Args:
        name: name in the legend; empty for none.
        x: position of each point.
        y: height of each point; NaN interrupts a line, and points that are not finite are not drawn.
        kind: line, line of steps, points, or the band between `low` and `y`.
        colour: colour of lines and points.
        dash: pattern of lines.
        shape: shape of points.
        size: width of lines, or diameter of points, in points of 1/72 inch.
        opacity: 0..1.
        texts: what each point is, in words, shown on a screen.
        low: lower edge of a band.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Kind = "line"
    colour: str = BLUE
    dash: Dash = "solid"
    shape: Shape = "circle"
    size: float = 1.6
    opacity: float = 1.0
    texts: Sequence[str] = ()
    low: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """An axis.

    Args:
        label: its title.
        log: whether it is logarithmic; then all values are above 0.
        ticks: positions with texts, in place of numbers; empty for numbers.
        whole: whether only whole numbers have meaning.
        limits: the ends that are shown; None for those of the data.
    """

    label: str = ""
    log: bool = False
    ticks: Sequence[tuple[float, str]] = ()
    whole: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """One pair of axes.

    Args:
        name: name of its file, and its id on a page: letters, digits, `_`, `.` and `-`.
        title: what it shows.
        series: what is drawn, the last on top.
        x: horizontal axis.
        y: vertical axis.
        wide: whether it takes the width of a page rather than half of it.
        texts: texts at positions of the axes, each centred.
        note: what a reader must know, below it.
    """

    name: str
    title: str
    series: Sequence[Series]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    wide: bool = False
    texts: Sequence[tuple[float, float, str]] = ()
    note: str = ""
