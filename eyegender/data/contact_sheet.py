"""Contact sheets: many small images in rows, drawn with Pillow and without matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from eyegender.core.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_TILE, _GAP, _LINE, _COLUMNS = 72, 6, 13, 14


@dataclass(frozen=True)
class SheetRow:
    """A heading and the images below it.

    Args:
        heading: heading of one line.
        groups: positions of the images in the samples; the images of a group are drawn without a gap.
        captions: one short line per group.
    """

    heading: str
    groups: Sequence[Sequence[int]]
    captions: Sequence[str]


def draw_contact_sheet(path: Path, rows: Sequence[SheetRow], open_image: Callable[[int], Image.Image]) -> None:
    """Write the rows as a PNG. Long rows wrap, but only between two groups."""
    width = _COLUMNS * (_TILE + _GAP) + _GAP
    layouts = [_layout(row, width) for row in rows]
    height = sum(_LINE + _GAP + lines * (_TILE + _LINE + _GAP) for _, lines in layouts) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for row, (positions, lines) in zip(rows, layouts, strict=True):
        pen.text((_GAP, top), one_line(row.heading), fill="black")
        top += _LINE + _GAP
        for group, caption, (left, line) in zip(row.groups, row.captions, positions, strict=True):
            y = top + line * (_TILE + _LINE + _GAP)
            for k, i in enumerate(group):
                tile = open_image(i).convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
                sheet.paste(tile, (left + k * _TILE, y))
            room = len(group) * _TILE // 6  # characters of Pillow's own small font
            # Bytes of file names that cannot be decoded cannot be drawn, either.
            pen.text((left, y + _TILE), one_line(caption).encode("ascii", "replace").decode()[-room:], fill="black")
        top += lines * (_TILE + _LINE + _GAP)
    sheet.save(path)


def _layout(row: SheetRow, width: int) -> tuple[list[tuple[int, int]], int]:
    """Left edge and line of each group, and the number of lines."""
    positions: list[tuple[int, int]] = []
    left, line = _GAP, 0
    for group in row.groups:
        wide = len(group) * _TILE
        if left > _GAP and left + wide + _GAP > width:
            left, line = _GAP, line + 1
        positions.append((left, line))
        left += wide + _GAP
    return positions, line + 1 if positions else 0
