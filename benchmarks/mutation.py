"""Whole files and what damage, carelessness or malice makes of them, from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KINDS = {"JPEG": ("L", "RGB", "CMYK"), "PNG": ("L", "RGB", "RGBA", "P", "1", "I;16"), "BMP": ("L", "RGB", "P"),
         "WEBP": ("RGB", "RGBA")}  # fmt: skip

# What a counter, a size or an offset in a header may be set to.
_EXTREME = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 50_001, 100_000, 1 << 24)


def images(kind: str, seed: int = 0) -> list[bytes]:
    """Files of one format, one per mode, with EXIF and, in some, several frames."""
    noise = np.random.default_rng(seed)
    rough = Image.fromarray(noise.integers(0, 256, (6, 6, 4), dtype=np.uint8), "RGBA").resize((40, 36))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for mode in KINDS[kind]:
        image = Image.fromarray(np.asarray(rough.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else (
            rough.convert(mode)
        )  # fmt: skip
        files.append(_encoded(image, kind, **({} if kind == "BMP" else {"exif": exif})))
    if kind == "JPEG":
        files.append(_encoded(rough.convert("RGB"), kind, progressive=True))
    if kind in {"PNG", "WEBP"}:
        frames = [rough.rotate(angle) for angle in (10, 20)]
        files.append(_encoded(rough, kind, save_all=True, append_images=frames))
    if kind == "WEBP":
        files.append(_encoded(rough, kind, lossless=True))
    return files


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutated(data: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """One to six changes, half of them where headers are.

    Args:
        data: a whole file.
        chance: decides everything.
        other: a second file, to graft pieces from.
    """
    changed = bytearray(data)
    changes: list[Callable[[bytearray, random.Random, bytes], None]] = [
        _flip, _flip, _overwrite, _set_number, _set_number, _cut, _drop, _repeat, _graft,
    ]  # fmt: skip
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if changed:
            chance.choice(changes)(changed, chance, other or data)
    return _sealed(bytes(changed)) if chance.random() < 0.7 else bytes(changed)


def _sealed(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have: otherwise nothing behind the checksums would be reached."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    sealed, position = bytearray(data), 8
    while position + 12 <= len(sealed):
        (length,) = struct.unpack_from(">I", sealed, position)
        end = position + 8 + length
        if end + 4 > len(sealed):
            break
        struct.pack_into(">I", sealed, end, zlib.crc32(sealed[position + 4 : end]))
        position = end + 4
    return bytes(sealed)


def _random_position(data: bytearray, chance: random.Random) -> int:
    end = min(len(data), 64) if chance.random() < 0.5 else len(data)
    return chance.randrange(end)


def _flip(data: bytearray, chance: random.Random, _other: bytes) -> None:
    data[_random_position(data, chance)] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, _other: bytes) -> None:
    data[_random_position(data, chance)] = chance.randrange(256)


def _set_number(data: bytearray, chance: random.Random, _other: bytes) -> None:
    position, number = _random_position(data, chance), chance.choice(_EXTREME)
    width = chance.choice(("<H", ">H", "<I", ">I"))
    written = struct.pack(width, number & (0xFFFF if width[1] == "H" else 0xFFFFFFFF))
    data[position : position + len(written)] = written


def _cut(data: bytearray, chance: random.Random, _other: bytes) -> None:
    del data[_random_position(data, chance) :]


def _drop(data: bytearray, chance: random.Random, _other: bytes) -> None:
    position = _random_position(data, chance)
    del data[position : position + chance.randint(1, 40)]


def _repeat(data: bytearray, chance: random.Random, _other: bytes) -> None:
    position = _random_position(data, chance)
    data[position:position] = data[position : position + chance.randint(1, 200)] * chance.randint(1, 4)


def _graft(data: bytearray, chance: random.Random, other: bytes) -> None:
    start, position = chance.randrange(len(other)), _random_position(data, chance)
    data[position : position + 60] = other[start : start + chance.randint(1, 200)]


TEXT_PIECES = (
    "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "a/b.jpg", "\0", "\r", "\n", "\n\n", "\ufeff", "\u0663",
    "\u00b2", "é",
    "-", "--5", "1e3", "nan", "inf", "9" * 20, "9" * 5000, "-1", "0", "1", " ", "\t", ",", ",,", '"', "'", "#",
    "x" * 200,
    "<html>", "None", "000001.jpg", "-99999", "1_0", "٣٤",
)  # fmt: skip


def mutated_text(text: str, chance: random.Random) -> bytes:
    """A text file with cells, lines or bytes changed."""
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        i = chance.randrange(len(lines))
        way = chance.randrange(7)
        if way == 0:
            del lines[i]
            lines = lines or [""]
        elif way == 1:
            lines.insert(i, lines[i])
        elif way == 2:
            lines.insert(i, chance.choice(TEXT_PIECES))
        elif way == 3:
            lines[i] += chance.choice((" ", ",", "")) + chance.choice(TEXT_PIECES)
        else:
            separator = "," if "," in lines[i] else " "
            cells = lines[i].split(separator)
            cells[chance.randrange(len(cells))] = chance.choice(TEXT_PIECES)
            lines[i] = separator.join(cells)
    data = "\n".join(lines).encode("utf-8", "surrogateescape")
    return mutated(data, chance) if chance.random() < 0.3 else data
