"""The style of every figure: font sizes, greys, and colours that colour-blind readers can distinguish.

Nothing here uses pyplot or rcParams, because figures are drawn beside a training loop and from several threads.
"""

from __future__ import annotations

import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.ft2font import FT2Font

INK = "#1f2328"
QUIET = "#656d76"
FAINT = "#d8dce1"
GRID = "#eceef1"
# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/) without yellow, which is unreadable as a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#5C5C5C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, VERMILION = PALETTE[0], PALETTE[1]

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 12.0, 10.0, 8.5  # points
# Approximate number of characters that fit on one inch of figure width.
_TITLE_CHARACTERS_PER_INCH = 11.5
_NOTE_CHARACTERS_PER_INCH = 14.0


# The note of every figure that shows results on synthetic data.
SYNTHETIC_NOTE = "Synthetic data: says nothing about real eyes."


def new_figure(width: float, height: float, title: str, note: str | None = None) -> Figure:
    """An empty figure with a title at the top left and a note in small grey print at the bottom left.

    Args:
        width: width in inches.
        height: height in inches.
        title: title of the figure.
        note: what the reader must know, for example that the data is synthetic.
    """
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    wrapped = textwrap.fill(plain(title), round(width * _TITLE_CHARACTERS_PER_INCH))
    figure.suptitle(wrapped, x=0.012, ha="left", fontsize=TITLE_SIZE, fontweight="bold", color=INK)
    if note:
        small = textwrap.fill(plain(note), round(width * _NOTE_CHARACTERS_PER_INCH))
        figure.supxlabel(small, x=0.012, ha="left", fontsize=SMALL_SIZE, color=QUIET)
    return figure


def plain(text: str) -> str:
    """Text from a file name or a run name, without formulas (`$`), and with `?` for letters that the font lacks."""
    if not text.isascii():
        text = "".join(letter if letter.isascii() or _font().get_char_index(ord(letter)) else "?" for letter in text)
    return text.replace("$", r"\$")


@cache
def _font() -> FT2Font:
    return get_font(findfont("DejaVu Sans"))


def style_axes(axes: Axes, x_label: str = "", y_label: str = "", title: str = "", grid: str = "both") -> Axes:
    """Add labels and a faint grid behind the data (`both`, `x`, `y` or `none`), and remove the box around the axes."""
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE, color=INK)
    axes.set_ylabel(y_label, fontsize=TEXT_SIZE, color=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=TEXT_SIZE, color=INK)
    axes.tick_params(labelsize=SMALL_SIZE, colors=QUIET, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.set_axisbelow(True)
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if grid in ("both", name):
            axis.grid(visible=True, color=GRID, linewidth=0.9)
    return axes


def legend(axes: Axes, **options: Any) -> None:
    """A legend without a box."""
    axes.legend(frameon=False, fontsize=SMALL_SIZE, labelcolor=INK, **options)


def legend_below(axes: Axes, columns: int = 1) -> None:
    """A legend below the axes, for plots without room for one inside."""
    legend(axes, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=columns, borderaxespad=0.0)


def percent(share: float, digits: int = 1) -> str:
    """A share in 0..1 as text: 0.9623 is `96.2%`."""
    return f"{100 * share:.{digits}f}%"


def percent_axis(axis: Axis) -> None:
    """Show shares as `92%`, or as `92.5%` if the ticks are that close."""
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g}%")


def colour(position: int) -> str:
    return PALETTE[position % len(PALETTE)]


def marker(position: int) -> str:
    return MARKERS[position % len(MARKERS)]
