"""Turns whatever a caller holds (arrays, files' bytes, base64, nested lists) into the pixels that a network takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eyegender.data.decode import Color, decode, to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMN = "image"  # of a table; the only one that is read


def as_pixels(pictures: Any, size: int, color: Color) -> NDArray[np.uint8]:
    """Pixels (N, C, size, size), C = 1 for gray and 3 for rgb.

    Args:
        pictures: a batch: an array (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); or a list, or a table with a
            column `image`, of single pictures: arrays or nested lists (H, W[, C]), the bytes of a JPEG, PNG, BMP or
            WebP file, or such bytes as base64 text. Integers are 0..255. Floats are 0..1; a batch with any value above
            1 is taken as 0..255.
        size: side in pixels.
        color: what the network was trained on.

    Raises:
        ValueError: not a picture, wrong shape or out of range; names the picture's position.
    """
    if hasattr(pictures, "columns"):
        if COLUMN not in pictures.columns:
            raise ValueError(f"the table needs a column {COLUMN!r}, got {list(pictures.columns)}")
        pictures = list(pictures[COLUMN])
    elif isinstance(pictures, dict):
        if set(pictures) != {COLUMN}:
            raise ValueError(f"expected the single key {COLUMN!r}, got {sorted(map(str, pictures))}")
        pictures = pictures[COLUMN]
    if isinstance(pictures, bytes | str):
        pictures = [pictures]
    singles = list(pictures) if isinstance(pictures, Iterable) else [pictures]
    if not singles:
        return np.zeros((0, 1 if color == "gray" else 3, size, size), np.uint8)
    arrays: list[Any] = [_single(picture, position) for position, picture in enumerate(singles)]
    if all(isinstance(array, np.ndarray) and array.ndim < 2 for array in arrays):
        raise ValueError(f"a batch of pictures has 3 or 4 dimensions, got shape {np.shape(pictures)}")
    scale = _float_scale(arrays)
    images = [_image(array, scale, position) for position, array in enumerate(arrays)]
    return np.stack([to_pixels(image, size, color) for image in images])


def _single(picture: Any, position: int) -> NDArray[Any] | Image.Image:
    if isinstance(picture, str):
        try:
            picture = base64.b64decode(picture.partition("base64,")[2] or picture, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"picture {position} is text, but not the base64 of a picture file") from error
    if isinstance(picture, bytes | bytearray):
        return decode(bytes(picture))
    if isinstance(picture, Image.Image):
        return picture
    try:
        array = np.asarray(picture)
        return array if array.dtype != object else np.asarray(picture.tolist(), dtype=np.float64)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"picture {position} is neither an array nor the bytes of a picture file") from error


def _float_scale(arrays: list[Any]) -> float:
    floats = [array for array in arrays if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size]
    return 255.0 if floats and max(float(array.max()) for array in floats) <= 1.0 else 1.0


def _image(array: NDArray[Any] | Image.Image, scale: float, position: int) -> Image.Image:
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
    values = array * scale if array.dtype.kind == "f" else array
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise ValueError(f"picture {position} must be within 0..255 (floats: 0..1 or 0..255), got values outside")
    return Image.fromarray(np.ascontiguousarray(np.rint(values).astype(np.uint8)))
