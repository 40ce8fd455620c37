"""The Markdown of a model card as HTML: headings, lists, tables, quotes, code and paragraphs, and nothing else."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby

_STRONG, _EMPHASIS, _CODE = re.compile(r"\*\*(.+?)\*\*"), re.compile(r"\*(.+?)\*"), re.compile(r"`([^`]+)`")


def to_html(markdown: str) -> str:
    """The text as HTML. Whatever looks like HTML in it is escaped."""
    found: list[str] = []
    # Code may contain whatever begins a line elsewhere.
    for position, part in enumerate(re.split(r"^```.*\n", markdown, flags=re.MULTILINE)):
        if position % 2:
            found.append(f"<pre>{escape(part.rstrip())}</pre>")
        else:
            lines = [line for line in part.splitlines() if line.strip()]
            found += [_block(kind, list(group)) for kind, group in groupby(lines, _kind)]
    return "\n".join(found)


def _kind(line: str) -> str:
    if line.startswith("#"):
        return line  # each heading is a block of its own
    return next((start for start in ("- ", "|", "> ") if line.startswith(start)), line)


def _block(kind: str, lines: list[str]) -> str:
    if kind == "- ":
        return f"<ul>{''.join(f'<li>{_inline(line[2:])}</li>' for line in lines)}</ul>"
    if kind == "|":
        return _table(lines)
    if kind == "> ":
        return f'<p class="warning">{_inline(" ".join(line[2:] for line in lines))}</p>'
    [line] = lines
    if line.startswith("#"):
        level = len(line) - len(line.lstrip("#"))
        return f"<h{level}>{_inline(line.lstrip('# '))}</h{level}>"
    return f"<p>{_inline(line)}</p>"


def _table(lines: list[str]) -> str:
    head, alignment, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    left = [not cell.endswith(":") for cell in alignment]

    def row(cells: list[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=left' if is_left else ''}>{_inline(cell)}</{tag}>"
            for cell, is_left in zip(cells, left, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table><thead>{row(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def _inline(text: str) -> str:
    parts = _CODE.split(escape(text))
    for position in range(0, len(parts), 2):
        parts[position] = _EMPHASIS.sub(r"<em>\1</em>", _STRONG.sub(r"<strong>\1</strong>", parts[position]))
    for position in range(1, len(parts), 2):
        parts[position] = f"<code>{parts[position]}</code>"
    return "".join(parts)
