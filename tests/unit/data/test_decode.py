import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from random_images import encode, random_image

from eyegender.data.decode import MAX_PIXELS, decode, to_pixels
from eyegender.data.readers import UnreadableImageError


def mode_cases() -> list[tuple[str, bytes]]:
    eye = random_image(1)
    palette = eye.convert("P")
    palette.info["transparency"] = 0
    wide = Image.fromarray(np.asarray(eye.convert("L")).astype(np.uint16) * 257)
    return [
        ("L", encode(eye.convert("L"))),
        ("1", encode(eye.convert("1"))),
        ("P with a transparent colour", encode(palette, transparency=0)),
        ("LA", encode(eye.convert("LA"))),
        ("RGBA", encode(eye.convert("RGBA"))),
        ("16-bit gray", encode(wide)),
        ("CMYK", encode(eye.convert("CMYK"), "JPEG")),
        ("JPEG", encode(eye, "JPEG")),
        ("BMP", encode(eye, "BMP")),
        ("WebP", encode(eye, "WEBP")),
    ]


@pytest.mark.parametrize(("name", "data"), mode_cases(), ids=[name for name, _ in mode_cases()])
def test_every_mode_becomes_gray_and_rgb(name: str, data: bytes) -> None:
    image = decode(data)
    assert image.mode in {"L", "RGB"}
    assert to_pixels(image, 24, "gray").shape == (1, 24, 24)
    assert to_pixels(image, 24, "rgb").shape == (3, 24, 24)
    assert to_pixels(image, 24, "gray").flags.writeable  # else torch warns


def test_sixteen_bits_keep_their_brightness() -> None:
    eye = np.asarray(random_image(1).convert("L"))
    wide = Image.fromarray(eye.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(decode(encode(wide))), eye)


def test_transparent_images_are_composited_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert np.all(np.asarray(decode(encode(clear))) == 255)


def test_exif_orientation_is_applied() -> None:
    eye = random_image(2).crop((0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    data = encode(eye, "JPEG", exif=exif)
    assert decode(data).size == (20, 40)
    assert decode(data, upright=False).size == (40, 20)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7_100, 12_000, 60_000])  # above ours, above Pillow's warning, above Pillow's limit
def test_giant_images_are_refused_before_decoding(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(UnreadableImageError, match="more than 50,000,000 pixels"):
        decode(png_that_claims(side, side))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>no</html>", "not a JPEG, PNG, BMP or WebP"),
        (encode(random_image(3), "GIF"), "not a JPEG, PNG, BMP or WebP"),
        (encode(random_image(3), "JPEG")[:300], "(?i)truncated"),
        (encode(random_image(3))[:200], "(?i)truncated|broken"),
    ],
)
def test_the_error_says_why_a_file_is_not_an_image(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


def test_noise_after_a_header_raises_no_other_error() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "BMP", "WEBP"):
        whole = bytearray(encode(random_image(4), kind))
        for _ in range(60):
            broken = bytearray(whole)
            for position in rng.integers(4, len(broken), 8):
                broken[position] = rng.integers(256)
            with suppress(UnreadableImageError):
                decode(bytes(broken))


def test_images_are_converted_to_gray_before_resizing() -> None:
    eye = random_image(5)
    expected = np.asarray(eye.convert("L").resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(to_pixels(eye, 16, "gray")[0], expected)
