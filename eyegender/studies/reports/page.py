"""Writes a page about studies: one HTML file with pictures for paper and, above them, charts for the screen."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.plots.pages import render_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from eyegender.plots.chart import Chart

TEMPLATE = Path(__file__).parent / "templates" / "study.html"
_SCRIPT = TEMPLATE.with_suffix(".js")
_MOST_IN_SVG = 3000  # with more points, a bitmap is smaller


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `href` makes its text a link, and `long` lets it break into lines."""

    text: str
    small: str = ""
    strong: bool = False
    href: str = ""
    long: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first `left` columns are left-aligned. With `folded`, it is shown on a click on that text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    folded: str = ""


@dataclass(frozen=True)
class Image:
    """A picture without a chart for the screen."""

    title: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A part of a page: sentences, commands, charts, pictures, tables and small print, in this order."""

    title: str
    before: Sequence[str] = ()
    commands: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    images: Sequence[Image] = ()
    tables: Sequence[Table] = ()
    after: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        title: its heading.
        answer: what it found, the most important sentence first.
        warnings: what a reader must know before anything else.
        facts: small print below them.
        link: address of the study's run in MLflow; empty if unknown.
        sections: its parts.
    """

    title: str
    answer: Sequence[str]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    facts: Sequence[str] = ()
    link: str = ""


def write_page(page: Page, path: Path, figures: Path) -> list[str]:
    """Write a page, and its charts as PNG files into a folder; returns the names of these files without suffix.

    The page contains everything and asks no server for anything. Without JavaScript and on paper, it shows the same
    charts as pictures. Charts must have different names.

    Args:
        page: the content; every text in it is escaped.
        path: the file.
        figures: folder for the pictures; created if it does not exist.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from eyegender.plots.chart_figure import draw_chart
    from eyegender.plots.interactive import plotly_figure

    figures.mkdir(parents=True, exist_ok=True)
    charts = {chart.name: chart for section in page.sections for chart in section.charts}
    shown: dict[str, dict[str, object]] = {}
    for name, chart in charts.items():
        figure = draw_chart(chart)
        points = sum(len(series.x) for series in chart.series)
        uri = _uri(figure, "svg" if points <= _MOST_IN_SVG else "png")
        figure.set_layout_engine("none")  # everything has its place, and to find it takes half of the time
        figure.set_dpi(120)
        FigureCanvasAgg(figure).print_png(figures / f"{name}.png", metadata={"Software": None})  # type: ignore[no-untyped-call]
        shown[name] = {"title": chart.title, "wide": chart.wide, "uri": uri}
    data = {name: plotly_figure(chart) for name, chart in charts.items()}
    path.write_text(_html(page, shown, data), encoding="utf-8")
    return list(charts)


def _html(page: Page, charts: Mapping[str, object], data: Mapping[str, object]) -> str:
    from markupsafe import Markup

    plotly, own = _plotly() if charts else None, _SCRIPT.read_text(encoding="utf-8")
    hashes = " ".join(_hash(script) for script in (plotly, own) if script)
    sections = [
        {
            "title": section.title, "before": section.before, "commands": section.commands,
            "charts": [chart.name for chart in section.charts],
            "images": [{"title": image.title, "uri": _uri(image.figure, "svg")} for image in section.images],
            "tables": section.tables, "after": section.after,
        }
        for section in page.sections
    ]  # fmt: skip
    return render_page(
        TEMPLATE,
        page={
            "title": page.title, "answer": page.answer, "warnings": page.warnings, "facts": page.facts,
            "link": page.link, "sections": sections,
        },
        charts=charts,
        script_hashes=Markup(hashes),  # noqa: S704 - base64
        plotly=None if plotly is None else Markup(plotly),  # noqa: S704 - of the package
        script=Markup(own),  # noqa: S704
        data=Markup(_json(data)),  # noqa: S704 - without <
    )  # fmt: skip


@cache
def _plotly() -> str | None:
    """plotly.js; None in an environment from before it was required, where pages show only their pictures."""
    from eyegender.plots.interactive import plotly_script

    try:
        return plotly_script()
    except ImportError:
        return None


def _json(data: object) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    """How a content security policy names a script that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _uri(figure: Figure, kind: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=150, metadata={"Software": None} if kind == "png" else {"Date": None})
    media = "image/png" if kind == "png" else "image/svg+xml"
    return f"data:{media};base64,{base64.b64encode(content.getvalue()).decode()}"
