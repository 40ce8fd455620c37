"""Writes a comparison as a self-contained HTML page, as Markdown, and as figures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.comparison import tables
from eyegender.comparison.compared import TITLES
from eyegender.comparison.figures import ACCURACY, comparison_figures
from eyegender.comparison.interval_chart import interval_chart
from eyegender.comparison.paper import CITATION, REMARKS
from eyegender.core.output_folder import remove_old
from eyegender.plots.figures import save_figures
from eyegender.plots.pages import render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from eyegender.comparison.comparison import Comparison
    from eyegender.comparison.figures import LoadImages
    from eyegender.comparison.tables import Cell, Table

TEMPLATE = Path(__file__).parent / "templates" / "comparison.html"
PAGE_FILE, MARKDOWN_FILE, FIGURES_FOLDER = "comparison.html", "comparison.md", "figures"
# Figures at least this wide, in inches, span the whole page.
_WIDE = 7.4


@dataclass(frozen=True)
class Section:
    """A heading with an optional table and paragraphs below it."""

    title: str
    table: Table | None
    paragraphs: tuple[str, ...] = ()


def write_comparison(
    comparison: Comparison, folder: Path | str, *, load_images: LoadImages | None = None, created: str | None = None
) -> list[Path]:
    """Write `comparison.html`, `comparison.md` and `figures/*.png` and `*.svg` into `folder`.

    Args:
        comparison: result of `compare`.
        folder: folder for the files; created if it does not exist. Existing files are replaced.
        load_images: function that loads the images of the sheet of disagreements; None omits the sheet.
        created: line below the title that says when and from what the page was made. Without it, equal comparisons give
            equal Markdown.
    """
    folder = Path(folder)
    figures = comparison_figures(comparison, load_images)
    remove_old(folder, FIGURES_FOLDER)
    written = save_figures(figures, folder / FIGURES_FOLDER, svg=True)
    page, markdown = folder / PAGE_FILE, folder / MARKDOWN_FILE
    page.write_text(render_html(comparison, figures, created), encoding="utf-8")
    markdown.write_text(render_markdown(comparison, figures, created), encoding="utf-8")
    return [page, markdown, *written]


def render_html(comparison: Comparison, figures: Mapping[str, Figure], created: str | None = None) -> str:
    """The page as a single HTML file, with inline style and embedded figures."""
    images = [
        _image(name, figure) for name, figure in figures.items() if name != ACCURACY
    ]  # which the page has as text
    return render_page(
        TEMPLATE,
        title=_title(comparison),
        created=created,
        comparison=comparison,
        sections=sections(comparison),
        chart=interval_chart(comparison),
        images=images,
    )


def render_markdown(comparison: Comparison, figures: Mapping[str, Figure], created: str | None = None) -> str:
    """The same content as Markdown; it refers to the figures as `figures/<name>.png`."""
    lines = [f"# {_title(comparison)}", ""]
    lines += [created, ""] if created else []
    lines += [f"- {_safe(line)}" for line in comparison.headlines]
    lines += ["", *(f"> **Warning.** {_safe(line)}\n" for line in comparison.warnings)]
    first = {name: figure for name, figure in figures.items() if name == ACCURACY}
    lines += _markdown_figures(first)
    for section in sections(comparison):
        lines += [f"## {section.title}", ""]
        if section.table:
            lines += [*_markdown_table(section.table), ""]
        lines += [f"{paragraph}\n" for paragraph in section.paragraphs]
    if others := {name: figure for name, figure in figures.items() if name != ACCURACY}:
        lines += ["## Figures", "", *_markdown_figures(others)]
    if comparison.left_out:
        lines += ["## Left out", "", *(f"- {_safe(line)}" for line in comparison.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_figures(figures: Mapping[str, Figure]) -> list[str]:
    return [f"![{_safe(_alt(figure))}]({FIGURES_FOLDER}/{name}.png)\n" for name, figure in figures.items()]


def sections(comparison: Comparison) -> list[Section]:
    """The sections that the page and the Markdown share, in order."""
    units = " or ".join(dict.fromkeys(f"{group.unit}s" for group in comparison.groups))
    interval = f"Small numbers are 95% intervals, from a bootstrap over {units} if the {units} are known."
    positive = []
    if any(not run.predictions.classes for run in comparison.runs):
        name = comparison.classes[1]
        positive.append(f"The positive class is {name}; it is predicted if its probability is above 0.5.")
    if any(run.predictions.classes for run in comparison.runs):
        positive.append(
            "Of more than two classes, the most likely one is predicted; precision, recall, specificity, F1 and AUROC "
            "are means over the classes."
        )
    found = [
        Section(
            f"{TITLES[comparison.part].capitalize()} metrics",
            tables.metrics_table(comparison),
            (interval, *positive, *comparison.caveats),
        )
    ]
    found += [
        Section(f"Classes of group {group.letter}", tables.classes_table(comparison, group), (tables.CLASSES_NOTE,))
        for group in comparison.groups
        if comparison.runs[group.numbers[0] - 1].predictions.classes
    ]
    if comparison.pairs:
        found.append(Section("Which differences are significant", tables.pairs_table(comparison)))
    if comparison.seed_groups:
        spread = "± is the sample standard deviation over seeds."
        found.append(Section("Mean over seeds", tables.seeds_table(comparison), (spread,)))
    found.append(Section("Configs and costs", tables.configs_table(comparison)))
    if comparison.paper:
        citation = f"The rows marked as paper in the first table are from {CITATION}."
        found.append(Section("The numbers of the paper", None, (citation, *REMARKS)))
    return found


def _title(comparison: Comparison) -> str:
    count = len(comparison.runs)
    if count > 1:
        title = f"Comparison of {count} runs"
    else:
        title = "One run compared with the paper" if comparison.paper else "One run"
    return title if comparison.part == "test" else f"{title} on validation images"


def _image(name: str, figure: Figure) -> dict[str, object]:
    """The figure as a data URI: a bitmap if it shows images, otherwise vector graphics."""
    kind = "png" if any(axes.get_images() for axes in figure.axes) else "svg"
    content = io.BytesIO()
    metadata: dict[str, None] = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    encoded = base64.b64encode(content.getvalue()).decode()
    media = "image/png" if kind == "png" else "image/svg+xml"
    wide = figure.get_figwidth() >= _WIDE
    return {"name": name, "uri": f"data:{media};base64,{encoded}", "alt": _alt(figure), "wide": wide}


def _alt(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ").replace(r"\$", "$")


def _markdown_table(table: Table) -> list[str]:
    alignment = [":--" if i < table.left else "--:" for i in range(len(table.columns))]
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (list(table.columns), alignment, *rows)]


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.strong and cell.text else cell.text
    whole = f"{text} ({cell.small})" if cell.small else text
    return _safe(whole).replace("|", "\\|").replace("\n", " ")


def _safe(text: str) -> str:
    """Escape text from users, so that it cannot add HTML or links to the Markdown."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("[", "&#91;")
