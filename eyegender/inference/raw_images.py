"""Converts raw images as callers have them (arrays, tensors, files' bytes, base64, lists) to pixels of a network."""

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

COLUMN = "image"  # of a table with several columns

# Rounding can lift an image with values in 0..1 this much above 1; the same share of its range is clipped.
TOLERANCE = 1e-3


def as_pixels(images: Any, size: int, color: Color) -> NDArray[np.uint8]:
    """Convert a batch of raw images to pixels (N, C, size, size), with C = 1 for gray and 3 for rgb.

    Args:
        images: an array (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); or a list, or a table with one column or a
            column `image`, of single images: arrays or nested lists (H, W[, C]), the bytes of a JPEG, PNG, BMP or WebP
            file, or these bytes as base64 text. The bytes of a file or an array (H, W, 1 or 3) alone is one image.
            Integers are in 0..255. The range of floats is inferred image by image: 0..1 if the largest is at most 1,
            0..255 if it is 2 or more.
        size: side of the pixels.
        color: color mode of the pixels.

    Raises:
        ValueError: an input is not an image, has a wrong shape, or has values outside of both ranges or between them;
            the message gives its position.

    Example:
        >>> as_pixels(np.zeros((2, 40, 50)), size=32, color="gray").shape
        (2, 1, 32, 32)
    """
    batch = [_to_array_or_image(image, position) for position, image in enumerate(_to_list(images))]
    if not batch:
        return np.zeros((0, 1 if color == "gray" else 3, size, size), np.uint8)
    arrays = [image for image in batch if isinstance(image, np.ndarray)]
    if len(arrays) == len(batch):
        if all(array.ndim < 2 for array in arrays):
            raise ValueError(
                f"a batch of images has 3 or 4 dimensions, got {len(arrays)} of shape {arrays[0].shape}; "
                "add the first dimension, also for a single image"
            )
        if arrays[0].ndim == 2 and arrays[0].shape[1] in (1, 3, 4) and len({array.shape for array in arrays}) == 1:
            batch = [np.stack(arrays)]  # the rows of one image with its channels last: no image is so narrow
    return np.stack([to_pixels(_to_image(image, position), size, color) for position, image in enumerate(batch)])


def _to_list(images: Any) -> list[Any]:
    """The single images of a batch."""
    if hasattr(images, "columns"):
        names = list(images.columns)
        if COLUMN not in names and len(names) != 1:
            raise ValueError(f"a table with several columns needs a column {COLUMN!r}, got {len(names)} others")
        return list(images[COLUMN if COLUMN in names else names[0]])
    if isinstance(images, dict):
        if set(images) != {COLUMN}:
            raise ValueError(f"expected the single key {COLUMN!r}, got {sorted(map(str, images))}")
        return _to_list(images[COLUMN])
    if isinstance(images, np.ndarray) and not images.ndim:
        images = images.item()
    single = isinstance(images, bytes | bytearray | memoryview | str | Image.Image) or not isinstance(images, Iterable)
    return [images] if single else list(images)


def _to_array_or_image(image: Any, position: int) -> NDArray[Any] | Image.Image:
    if isinstance(image, str):
        try:
            image = base64.b64decode(image.partition("base64,")[2] or image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"image {position} is text, but not the base64 of an image file") from error
    if isinstance(image, bytes | bytearray | memoryview):
        try:
            return decode(bytes(image))
        except UnreadableImageError as error:
            raise ValueError(f"image {position} cannot be read: {error}") from error
    if isinstance(image, Image.Image):
        return image
    if hasattr(image, "detach"):  # a tensor, possibly on another device or with a gradient
        image = image.detach().cpu()
    message = f"image {position} is neither an array nor the bytes of an image file"
    try:
        array = np.asarray(image)
        # An array of objects may hold integers, which must stay integers: their range does not depend on the largest.
        array = array if array.dtype != object else np.asarray(array.tolist())
    except (ValueError, TypeError) as error:
        raise ValueError(message) from error
    if array.dtype == object and not array.ndim:
        raise ValueError(f"{message}, got {type(image).__name__}")
    return array


def _to_image(array: NDArray[Any] | Image.Image, position: int) -> Image.Image:
    if isinstance(array, Image.Image):
        return array
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise ValueError(f"image {position} must be (H, W), (H, W, 1 or 3) or (1 or 3, H, W), got {array.shape}")
    if array.dtype.kind not in "uif":
        raise ValueError(f"image {position} must hold numbers, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(_to_uint8(array, position)))


def _to_uint8(array: NDArray[Any], position: int) -> NDArray[np.uint8]:
    """Values scaled to 0..255; the largest float decides which range floats are in."""
    low, high = float(array.min()), float(array.max())  # NaN if any value is NaN
    top, tolerance = 255.0, 0.0
    if array.dtype.kind == "f":
        # In the precision of the array: the float32 next to 1.001 is above it.
        tolerance = float(array.dtype.type(1 + TOLERANCE)) - 1
        if high <= 1 + tolerance:
            top = 1.0
        elif high < 2:
            raise ValueError(
                f"image {position} must be within 0..1 or 0..255, got a largest value of {high:g}, which fits neither; "
                "scale it"
            )
    if not (low >= -tolerance * top and high <= (1 + tolerance) * top):
        raise ValueError(
            f"image {position} must be within 0..255 (floats: 0..1 or 0..255), got {low:g} to {high:g}; scale it"
        )
    scaled = np.clip(array.astype(np.float64), 0, top) * (255 / top) if tolerance else array
    return np.rint(scaled).astype(np.uint8)
