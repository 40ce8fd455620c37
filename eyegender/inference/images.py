"""Turns whatever a caller holds (arrays, files' bytes, base64, nested lists) into the pixels that a network takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eyegender.data.decode import Color, decode, to_pixels
from eyegender.data.readers import UnreadableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMN = "image"  # of a table with several

# A picture counts as 0..1 up to this much above 1, for rounding goes there; the same share of the range is clipped.
SLACK = 1e-3


def as_pixels(pictures: Any, size: int, color: Color) -> NDArray[np.uint8]:
    """Pixels (N, C, size, size), C = 1 for gray and 3 for rgb.

    Args:
        pictures: a batch: an array (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); or a list, or a table with one
            column or a column `image`, of single pictures: arrays or nested lists (H, W[, C]), the bytes of a JPEG,
            PNG, BMP or WebP file, or such bytes as base64 text. A file's bytes or an array (H, W, 1 or 3) alone is
            one picture. Integers are 0..255. Floats are judged picture by picture: 0..1 where the largest is at most
            1, 0..255 where it is 2 or more.
        size: side in pixels.
        color: what the network was trained on.

    Raises:
        ValueError: not a picture, wrong shape, out of range or between both ranges; names the picture's position.
    """
    singles = [_single(picture, position) for position, picture in enumerate(_listed(pictures))]
    if not singles:
        return np.zeros((0, 1 if color == "gray" else 3, size, size), np.uint8)
    rows = [single for single in singles if isinstance(single, np.ndarray)]
    if len(rows) == len(singles):
        if all(row.ndim < 2 for row in rows):
            raise ValueError(
                f"a batch of pictures has 3 or 4 dimensions, got {len(rows)} of shape {rows[0].shape}; "
                "add the first, also for one picture"
            )
        if rows[0].ndim == 2 and rows[0].shape[1] in (1, 3, 4) and len({row.shape for row in rows}) == 1:
            singles = [np.stack(rows)]  # the rows of one picture with its colours last: none is so narrow
    images = [_image(single, position) for position, single in enumerate(singles)]
    return np.stack([to_pixels(image, size, color) for image in images])


def _listed(pictures: Any) -> list[Any]:
    """The pictures of a batch, one by one."""
    if hasattr(pictures, "columns"):
        names = list(pictures.columns)
        if COLUMN not in names and len(names) != 1:
            raise ValueError(f"the table needs a column {COLUMN!r}, got {len(names)} others; name it so")
        return list(pictures[COLUMN if COLUMN in names else names[0]])
    if isinstance(pictures, dict):
        if set(pictures) != {COLUMN}:
            raise ValueError(f"expected the single key {COLUMN!r}, got {sorted(map(str, pictures))}")
        return _listed(pictures[COLUMN])
    if isinstance(pictures, np.ndarray) and not pictures.ndim:
        pictures = pictures.item()
    alone = isinstance(pictures, bytes | bytearray | memoryview | str | Image.Image) or not isinstance(
        pictures, Iterable
    )
    return [pictures] if alone else list(pictures)


def _single(picture: Any, position: int) -> NDArray[Any] | Image.Image:
    if isinstance(picture, str):
        try:
            picture = base64.b64decode(picture.partition("base64,")[2] or picture, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"picture {position} is text, but not the base64 of a picture file") from error
    if isinstance(picture, bytes | bytearray | memoryview):
        try:
            return decode(bytes(picture))
        except UnreadableImageError as error:
            raise ValueError(f"picture {position} cannot be read: {error}") from error
    if isinstance(picture, Image.Image):
        return picture
    if hasattr(picture, "detach"):  # a tensor, maybe of another device or of a training
        picture = picture.detach().cpu()
    told = f"picture {position} is neither an array nor the bytes of a picture file"
    try:
        array = np.asarray(picture)
        # Integers must stay integers: what they are worth does not depend on the largest of them.
        array = array if array.dtype != object else np.asarray(array.tolist())
    except (ValueError, TypeError) as error:
        raise ValueError(told) from error
    if array.dtype == object and not array.ndim:
        raise ValueError(f"{told}, got {type(picture).__name__}")
    return array


def _image(array: NDArray[Any] | Image.Image, position: int) -> Image.Image:
    if isinstance(array, Image.Image):
        return array
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise ValueError(f"picture {position} must be (H, W), (H, W, 1 or 3) or (1 or 3, H, W), got {array.shape}")
    if array.dtype.kind not in "uif":
        raise ValueError(f"picture {position} must hold numbers, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(_bytes(array, position)))


def _bytes(array: NDArray[Any], position: int) -> NDArray[np.uint8]:
    """Values as 0..255; of floats the largest one tells the range."""
    low, high = float(array.min()), float(array.max())  # NaN if any is
    top, slack = 255.0, 0.0
    if array.dtype.kind == "f":
        # In the array's own precision: the float32 next to 1.001 is above it.
        slack = float(array.dtype.type(1 + SLACK)) - 1
        if high <= 1 + slack:
            top = 1.0
        elif high < 2:
            raise ValueError(
                f"picture {position} must be within 0..1 or 0..255, got a largest value of {high:g}, which tells "
                "neither; scale it"
            )
    if not (low >= -slack * top and high <= (1 + slack) * top):
        raise ValueError(
            f"picture {position} must be within 0..255 (floats: 0..1 or 0..255), got {low:g} to {high:g}; scale it"
        )
    scaled = np.clip(array.astype(np.float64), 0, top) * (255 / top) if slack else array
    return np.rint(scaled).astype(np.uint8)
