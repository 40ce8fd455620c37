"""The figures of one run, and how they are saved. Import this module lazily, because it imports matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg

from eyegender.plots.confusion_matrix import confusion_matrix
from eyegender.plots.image_sheet import most_wrong_sheet
from eyegender.plots.learning_curves import learning_curves
from eyegender.plots.reliability import reliability_diagram
from eyegender.plots.roc import roc_curve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

__all__ = [
    "confusion_matrix",
    "learning_curves",
    "most_wrong_sheet",
    "reliability_diagram",
    "roc_curve",
    "save_figures",
]

_DPI = 150


def save_figures(figures: Mapping[str, Figure], folder: Path | str, *, svg: bool = False) -> list[Path]:
    """Write `<name>.png` at 150 dpi and optionally `<name>.svg` into `folder`, which is created if it does not exist.

    The files contain no date, so equal figures give equal files. Returns their paths in the order of `figures`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.set_dpi(_DPI)
        # Figure.savefig would draw everything twice.
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]
        written.append(path)
        if svg:
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            written.append(path)
    return written
