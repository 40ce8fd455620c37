"""The figure that proves the answer: the accuracy of each run with its 95% interval, on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.comparison.answer import tied_with_leader
from eyegender.comparison.compared import TITLES
from eyegender.plots.style import BLUE, INK, QUIET, SMALL_SIZE, new_figure, percent_axis, plain, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from eyegender.comparison.compared import ComparedRun
    from eyegender.comparison.comparison import Comparison

# The best of each group come first; the table has all.
MOST_ROWS = 20
_MARGIN = 0.06  # of the scale, on both sides


@dataclass(frozen=True)
class IntervalRow:
    """One run as a line of the chart on the page; positions are percentages of the scale.

    Args:
        name: number and name of the run.
        note: what the line's colour says, in words.
        value, low, high: the accuracy and the limits of its interval, as text.
        at, left, width: position of the accuracy, and of its interval.
        leads: whether it is the most accurate run of its group.
        tied: whether it cannot be told apart from that one.
    """

    name: str
    note: str
    value: str
    low: str
    high: str
    at: float
    left: float
    width: float
    leads: bool
    tied: bool


@dataclass(frozen=True)
class IntervalChart:
    """The lines, the position of the best value, the two ends of the scale, and a sentence about what is shown."""

    rows: tuple[IntervalRow, ...]
    best: float
    ends: tuple[str, str]
    caption: str


def interval_chart(comparison: Comparison) -> IntervalChart:
    """The chart for the page, whose lines wrap on a narrow screen."""
    runs = shown_runs(comparison)
    low, high = _scale(runs)
    tied = _tied(comparison)

    def position(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    rows = []
    for run in runs:
        accuracy = run.metrics["accuracy"]
        at = position(accuracy.value)
        left, right = (position(limit) for limit in accuracy[1:])
        value, lower, upper = (f"{100 * each:.1f}" for each in accuracy)
        note = _note(comparison, run, is_tied=run.number in tied)
        rows.append(
            IntervalRow(
                f"#{run.number} {run.short_name}",
                note,
                value,
                lower,
                upper,
                at,
                left,
                round(right - left, 2),
                leads=run.leads,
                tied=run.number in tied,
            )
        )
    best = position(max(run.metrics["accuracy"].value for run in runs))
    return IntervalChart(tuple(rows), best, (f"{100 * low:.0f}%", f"{100 * high:.0f}%"), _caption(comparison))


def accuracy_figure(comparison: Comparison, note: str | None = None) -> Figure:
    """The same chart for the Markdown and as a file."""
    runs = shown_runs(comparison)
    tied = _tied(comparison)
    what = TITLES[comparison.part].capitalize()
    figure = new_figure(9.0, 1.5 + 0.36 * len(runs), f"{what} accuracy with 95% intervals", note)
    axes = style_axes(figure.subplots(), "accuracy", grid="x")
    best = max(run.metrics["accuracy"].value for run in runs)
    axes.axvline(best, color=BLUE, linewidth=1.0, linestyle=(0, (3, 3)))
    for line, run in enumerate(runs):
        value, low, high = run.metrics["accuracy"]
        color = BLUE if run.leads or run.number in tied else QUIET
        axes.plot([low, high], [line, line], color=color, linewidth=4.0, alpha=0.45, solid_capstyle="round")
        filled = color if run.number not in tied or run.leads else "white"
        axes.plot([value], [line], marker="o", markersize=7.5, color=color, markerfacecolor=filled, linestyle="")
    axes.set_yticks(range(len(runs)), [plain(run.label) for run in runs], fontsize=SMALL_SIZE, color=INK)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(*_scale(runs))
    percent_axis(axes.xaxis)
    return figure


def shown_runs(comparison: Comparison) -> tuple[ComparedRun, ...]:
    """The first runs of each group, so that no group is missing, in the order of the page."""
    share = max(1, MOST_ROWS // len(comparison.groups))
    numbers = [number for group in comparison.groups[:MOST_ROWS] for number in group.numbers[:share]]
    return tuple(comparison.runs[number - 1] for number in sorted(numbers))


def _tied(comparison: Comparison) -> set[int]:
    by_group = (tied_with_leader(comparison.runs, group, comparison.pairs) for group in comparison.groups)
    return {number for numbers in by_group for number in numbers}


def _scale(runs: tuple[ComparedRun, ...]) -> tuple[float, float]:
    """Whole percents around all intervals, so that the scale is as wide as the differences."""
    lows, highs = ([run.metrics["accuracy"][side] for run in runs] for side in (1, 2))
    margin = max(0.01, _MARGIN * (max(highs) - min(lows)))
    low, high = max(0.0, min(lows) - margin), min(1.0, max(highs) + margin)
    return math.floor(100 * low) / 100, math.ceil(100 * high) / 100


def _note(comparison: Comparison, run: ComparedRun, *, is_tied: bool) -> str:
    notes = [f"group {run.group}"] if len(comparison.groups) > 1 else []
    if run.leads:
        notes.append("highest")
    elif is_tied:
        leader = next(group.numbers[0] for group in comparison.groups if group.letter == run.group)
        notes.append(f"tied with #{leader}")
    return ", ".join(notes)


def _caption(comparison: Comparison) -> str:
    group = comparison.groups[0]
    images = group.images if len(comparison.groups) == 1 else f"{TITLES[comparison.part]} images of each group"
    text = f"Accuracy with 95% interval on {images}."
    if len(comparison.runs) > 1:
        text += " Blue: the highest, and those that cannot be told apart from it (tied, as rings); gray: lower."
    hidden = len(comparison.runs) - len(shown_runs(comparison))
    return text + (f" {hidden:,} more are in the table." if hidden else "")
