"""Small pictures side by side, with a line below each: what eyes see in a moment, tables do not tell."""

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
class Row:
    """A heading and pictures under it.

    Args:
        heading: one line.
        pictures: positions in the samples, in groups that stand close together.
        captions: one short line per group.
    """

    heading: str
    pictures: Sequence[Sequence[int]]
    captions: Sequence[str]


def draw_contact_sheet(path: Path, rows: Sequence[Row], open_picture: Callable[[int], Image.Image]) -> None:
    """Write a PNG of these rows; long ones wrap, groups are never torn apart."""
    width = _COLUMNS * (_TILE + _GAP) + _GAP
    placed = [_place(row, width) for row in rows]
    height = sum(_LINE + _GAP + lines * (_TILE + _LINE + _GAP) for _, lines in placed) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for row, (places, lines) in zip(rows, placed, strict=True):
        pen.text((_GAP, top), one_line(row.heading), fill="black")
        top += _LINE + _GAP
        for group, caption, (left, line) in zip(row.pictures, row.captions, places, strict=True):
            y = top + line * (_TILE + _LINE + _GAP)
            for k, i in enumerate(group):
                tile = open_picture(i).convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
                sheet.paste(tile, (left + k * _TILE, y))
            room = len(group) * _TILE // 6  # characters of Pillow's own small font
            # Undecodable bytes of file names cannot be drawn.
            pen.text((left, y + _TILE), one_line(caption).encode("ascii", "replace").decode()[-room:], fill="black")
        top += lines * (_TILE + _LINE + _GAP)
    sheet.save(path)


def _place(row: Row, width: int) -> tuple[list[tuple[int, int]], int]:
    """Left edge and line of each group, and the number of lines."""
    places: list[tuple[int, int]] = []
    left, line = _GAP, 0
    for group in row.pictures:
        wide = len(group) * _TILE
        if left > _GAP and left + wide + _GAP > width:
            left, line = _GAP, line + 1
        places.append((left, line))
        left += wide + _GAP
    return places, line + 1 if places else 0
