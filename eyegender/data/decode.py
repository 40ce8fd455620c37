"""From the bytes of a picture file to a small square of uint8, whatever the file's mode."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from eyegender.data.samples import BadPictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

# Checked against the header, before a pixel is unpacked: 50 megapixels take 150 MB, a crafted PNG would take gigabytes.
MAX_PIXELS = 50_000_000

# Each scan of a progressive JPEG goes over the whole picture again; encoders write about ten.
MAX_SCANS = 200
_SCAN = b"\xff\xda"  # in the pixels' code 0xff is followed by 0 or a restart marker

Color = Literal["gray", "rgb"]

# Remarks on EXIF blocks and sizes; what matters is raised. A context of the warnings module is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_header(data: bytes) -> tuple[int, int]:
    """Width and height as the file states them, without decoding; (0, 0) where it is no picture of a known format."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except Exception:  # Pillow's plugins raise nearly every type on malformed input
        return 0, 0


def decode(data: bytes, *, upright: bool = True) -> Image.Image:
    """The picture as mode L or RGB, fully loaded.

    Transparency is laid over white, 16-bit gray keeps its upper 8 bits, of an animation the first frame is taken.

    Args:
        data: a whole JPEG, PNG, BMP or WebP file.
        upright: turn the picture as its EXIF orientation asks.

    Raises:
        BadPictureError: not one of the formats, damaged, larger than `MAX_PIXELS`, or of more than `MAX_SCANS` scans.
    """
    if data.startswith(b"\xff\xd8") and data.count(_SCAN) > MAX_SCANS:
        raise BadPictureError(f"a JPEG of {data.count(_SCAN):,} scans, more than {MAX_SCANS}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse_giants(image.size)
            image.load()
            return _plain(_turned(image) if upright else image)
    except BadPictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPictureError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        reason = "empty file" if not data else "not a JPEG, PNG, BMP or WebP picture"
        raise BadPictureError(reason) from error
    except Exception as error:  # Pillow's plugins raise nearly every type on malformed input
        raise BadPictureError(" ".join(str(error).split()) or type(error).__name__) from error


def to_pixels(image: Image.Image, size: int, color: Color) -> NDArray[np.uint8]:
    """A uint8 array of shape (C, size, size), C = 1 for gray and 3 for rgb; gray before resizing, as in the paper.

    The picture is squeezed into the square: eyes are cropped nearly square, and a border would be a cue of its own.
    """
    wanted = "L" if color == "gray" else "RGB"
    image = _plain(image)
    if image.mode != wanted:
        image = image.convert(wanted)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image, dtype=np.uint8)  # a copy: the picture's own memory cannot be written, and torch objects
    return pixels[None] if color == "gray" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _refuse_giants(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise BadPictureError(f"{size[0]} x {size[1]} is more than {MAX_PIXELS:,} pixels")


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a malformed EXIF block spoils no picture
        return image


def _plain(image: Image.Image) -> Image.Image:
    """Mode L or RGB."""
    if image.mode in {"L", "RGB"}:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image)
        return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")
