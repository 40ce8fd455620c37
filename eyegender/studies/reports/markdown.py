"""A page about studies as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.studies.reports.page import Page, Table


def page_markdown(page: Page, figures: Sequence[str], folder: str) -> str:
    """The sentences and tables of a page; charts are links to files in `folder`.

    Args:
        page: the page.
        figures: names of the pictures, without suffix.
        folder: folder of the pictures, relative to the Markdown.
    """
    lines = [f"# {_safe(page.title)}", ""]
    for line in page.answer:
        lines += [_safe(line), ""]
    for line in page.warnings:
        lines += [f"> **Warning.** {_safe(line)}", ""]
    for line in page.facts:
        lines += [_safe(line), ""]
    for section in page.sections:
        lines += [f"## {section.title}", ""]
        for line in section.before:
            lines += [_safe(line), ""]
        for command in section.commands:
            lines += ["```", command, "```", ""]
        for chart in section.charts:
            lines += [f"![{_safe(chart.title)}]({folder}/{chart.name}.png)", ""] if chart.name in figures else []
        for table in section.tables:
            lines += [*_table(table), ""]
        for line in section.after:
            lines += [_safe(line), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    alignment = [":--" if i < table.left else "--:" for i in range(len(table.columns))]
    rows = [[_safe(f"{cell.text} ({cell.small})" if cell.small else cell.text) for cell in row] for row in table.rows]
    head = [_safe(column) for column in table.columns]
    return [f"| {' | '.join(row)} |" for row in (head, alignment, *rows)]


def _safe(text: str) -> str:
    """Text from users, which cannot add HTML, links or columns."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("[", "&#91;")
    return escaped.replace("|", "\\|").replace("\n", " ")
