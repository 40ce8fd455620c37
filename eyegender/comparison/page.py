"""Writes a comparison as a page that stands alone, as Markdown, and as figures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.comparison import tables
from eyegender.comparison.figures import comparison_figures
from eyegender.comparison.paper import CITATION, REMARKS
from eyegender.plots.figures import save_figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from eyegender.comparison.comparison import Comparison
    from eyegender.comparison.figures import Pictures
    from eyegender.comparison.tables import Cell, Table

PAGE_FILE, MARKDOWN_FILE, FIGURES_FOLDER = "comparison.html", "comparison.md", "figures"
# Figures at least this wide, in inches, get a line of their own on the page.
_BROAD = 7.4


@dataclass(frozen=True)
class Section:
    """A heading, its table if it has one, and remarks under it."""

    title: str
    table: Table | None
    lines: tuple[str, ...] = ()


def write_comparison(
    comparison: Comparison, folder: Path | str, *, pictures: Pictures | None = None, created: str | None = None
) -> list[Path]:
    """Write `comparison.html`, `comparison.md` and `figures/*.png` and `*.svg` into `folder`.

    Args:
        comparison: from `compare`.
        folder: made if it is missing; older files of the same names are replaced.
        pictures: from K picture names to their pixels (K, C, H, W), for the sheet of disagreements.
        created: when and from what, a line under the title. Without it equal comparisons give equal Markdown.
    """
    folder = Path(folder)
    figures = comparison_figures(comparison, pictures)
    written = save_figures(figures, folder / FIGURES_FOLDER, svg=True)
    page, markdown = folder / PAGE_FILE, folder / MARKDOWN_FILE
    page.write_text(render_html(comparison, figures, created), encoding="utf-8")
    markdown.write_text(render_markdown(comparison, figures, created), encoding="utf-8")
    return [page, markdown, *written]


def render_html(comparison: Comparison, figures: Mapping[str, Figure], created: str | None = None) -> str:
    """One file without any reference to another: style inline, figures embedded."""
    # Jinja2 comes with MLflow and with torch; imported here, so that a table needs neither.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("eyegender.comparison"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    images = [_image(name, figure) for name, figure in figures.items()]
    return environment.get_template("comparison.html").render(
        title=_title(comparison), created=created, comparison=comparison, sections=sections(comparison), images=images
    )


def render_markdown(comparison: Comparison, figures: Mapping[str, Figure], created: str | None = None) -> str:
    """The same, with figures referred to as `figures/<name>.png`."""
    lines = [f"# {_title(comparison)}", ""]
    lines += [created, ""] if created else []
    lines += [f"- {_safe(line)}" for line in comparison.headlines]
    lines += ["", *(f"> **Warning.** {_safe(line)}\n" for line in comparison.warnings)]
    for section in sections(comparison):
        lines += [f"## {section.title}", ""]
        if section.table:
            lines += [*_markdown_table(section.table), ""]
        lines += [f"{line}\n" for line in section.lines]
    if figures:
        lines += ["## Figures", ""]
        lines += [f"![{_safe(_alt(figure))}]({FIGURES_FOLDER}/{name}.png)\n" for name, figure in figures.items()]
    if comparison.left_out:
        lines += ["## Left out", "", *(f"- {_safe(line)}" for line in comparison.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def sections(comparison: Comparison) -> list[Section]:
    """What page and Markdown have in common, in order."""
    interval = "Small numbers are 95% intervals, from a bootstrap over persons where persons are known."
    positive = f"{comparison.classes[1]} is the positive class, above a probability of 0.5."
    found = [Section("Test metrics", tables.metrics_table(comparison), (interval, positive, *comparison.remarks))]
    if comparison.pairs:
        found.append(Section("Which differences are real", tables.pairs_table(comparison)))
    if comparison.pools:
        spread = "± is the sample standard deviation over seeds."
        found.append(Section("Seeds pooled", tables.pools_table(comparison), (spread,)))
    found.append(Section("What was trained, and what it costs", tables.facts_table(comparison)))
    found.append(Section("The paper's numbers", None, (f"Marked as paper in the first table: {CITATION}.", *REMARKS)))
    return found


def _title(comparison: Comparison) -> str:
    count = len(comparison.rows)
    return f"{count} runs side by side" if count > 1 else "One run beside the paper"


def _image(name: str, figure: Figure) -> dict[str, object]:
    """Vector graphics, but for sheets of pictures."""
    kind = "png" if any(axes.get_images() for axes in figure.axes) else "svg"
    content = io.BytesIO()
    metadata: dict[str, None] = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    encoded = base64.b64encode(content.getvalue()).decode()
    media = "image/png" if kind == "png" else "image/svg+xml"
    broad = figure.get_figwidth() >= _BROAD
    return {"name": name, "uri": f"data:{media};base64,{encoded}", "alt": _alt(figure), "broad": broad}


def _alt(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ").replace(r"\$", "$")


def _markdown_table(table: Table) -> list[str]:
    rules = [":--" if place < table.left else "--:" for place in range(len(table.columns))]
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (list(table.columns), rules, *rows)]


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.strong and cell.text else cell.text
    whole = f"{text} ({cell.small})" if cell.small else text
    return _safe(whole).replace("|", "\\|").replace("\n", " ")


def _safe(text: str) -> str:
    """Names come from users: no HTML of theirs in the Markdown, and no link that they did not mean."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("[", "&#91;")
