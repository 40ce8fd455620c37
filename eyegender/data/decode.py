"""Reads image files and decodes them to small squares of uint8, whatever the mode of the file."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from eyegender.data.readers import UnreadableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

# Checked in the header before decoding: 50 megapixels take 150 MB, but a crafted PNG file could take gigabytes.
MAX_PIXELS = 50_000_000

# Each scan of a progressive JPEG file decodes the whole image again; encoders write about ten.
MAX_SCANS = 200
_SCAN = b"\xff\xda"  # in the entropy-coded data, 0xff is followed by 0 or a restart marker

Color = Literal["gray", "rgb"]

_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# Pillow warns about EXIF blocks and sizes; it raises errors that matter. `warnings.catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image_bytes(path: str | Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        UnreadableImageError: not a regular file, or a broken link. Reading a named pipe could wait forever, and a
            device may never end.
        OSError: the file cannot be read.
    """
    # The functions take half the time of the methods of a path, for each of very many files.
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError as error:
        if Path(path).is_symlink():
            raise UnreadableImageError("a broken link") from error
        raise
    if not stat.S_ISREG(mode):
        raise UnreadableImageError(f"{_FILE_TYPES.get(stat.S_IFMT(mode), 'something else')}, not a file")
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall()


def read_header(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the file header states them; (0, 0) if the format is not a supported one."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except Exception:  # Pillow's plugins raise almost any type of exception on malformed input
        return 0, 0


def decode(data: bytes, *, upright: bool = True) -> Image.Image:
    """The fully loaded image in mode L or RGB.

    Transparent images are composited over white, 16-bit gray keeps its upper 8 bits, and an animation gives its first
    frame.

    Args:
        data: contents of a JPEG, PNG, BMP or WebP file.
        upright: rotate the image according to its EXIF orientation.

    Raises:
        UnreadableImageError: another format, damaged, more than `MAX_PIXELS` pixels or more than `MAX_SCANS` scans.
    """
    if data.startswith(b"\xff\xd8") and data.count(_SCAN) > MAX_SCANS:
        raise UnreadableImageError(f"a JPEG of {data.count(_SCAN):,} scans, more than {MAX_SCANS}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixel_count(image.size)
            image.load()
            return _to_gray_or_rgb(_rotate_upright(image) if upright else image)
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        reason = "empty file" if not data else "not a JPEG, PNG, BMP or WebP image"
        raise UnreadableImageError(reason) from error
    except Exception as error:  # Pillow's plugins raise almost any type of exception on malformed input
        raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from error


def to_pixels(image: Image.Image, size: int, color: Color) -> NDArray[np.uint8]:
    """A uint8 array of shape (C, size, size), C = 1 for gray and 3 for rgb.

    Images are converted to gray before they are resized, as in the paper. The aspect ratio is not preserved: crops of
    eyes are nearly square, and the model could learn from the border that padding adds.

    Args:
        image: an image of any mode and size.
        size: side of the square in pixels.
        color: gray or rgb.
    """
    wanted = "L" if color == "gray" else "RGB"
    image = _to_gray_or_rgb(image)
    if image.mode != wanted:
        image = image.convert(wanted)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image, dtype=np.uint8)  # a copy, because torch warns about the read-only memory of the image
    return pixels[None] if color == "gray" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _check_pixel_count(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise UnreadableImageError(f"{size[0]} x {size[1]} is more than {MAX_PIXELS:,} pixels")


def _rotate_upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # an image with a malformed EXIF block is still usable
        return image


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
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
