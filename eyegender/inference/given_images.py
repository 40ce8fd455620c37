"""The images that a call from Python gives: paths, images of Pillow, or arrays of pixels; one or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from eyegender.core.errors import UserError
from eyegender.inference.prediction import DecodedFile, find_image_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHANNELS = (1, 3, 4)
_RULE = "images must be paths, Pillow images or uint8 arrays (height, width, 3), one or a list of them"


def find_images(images: Any) -> list[Path | DecodedFile]:
    """Image files as paths, and images in memory under their position in the list, `[0]`, `[1]` and so on.

    Args:
        images: a path, a Pillow image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, or several of
            them; an array (N, H, W, 3) is N images. Folders are searched with all their subfolders.

    Raises:
        UserError: something else, a path that does not exist, or no image at all.
    """
    given = [images] if _is_one(images) else _as_list(images)
    if not given:
        raise UserError(f"{_RULE}, got none; give one or more")
    if all(isinstance(one, str | os.PathLike) for one in given):
        return [*find_image_files([os.fspath(one) for one in given])]
    found: list[Path | DecodedFile] = []
    for position, one in enumerate(given):
        if isinstance(one, str | os.PathLike):
            found += find_image_files([os.fspath(one)])
        else:
            found.append(_in_memory(one, Path(f"[{position}]")))
    return found


def _is_one(images: Any) -> bool:
    return isinstance(images, str | os.PathLike | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim <= 3 and images.dtype.kind not in "UO"
    )


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, bytes | Mapping) or not isinstance(images, Iterable):
        raise UserError(f"{_RULE}, got {type(images).__name__}; give one of these")
    return list(images)


def _in_memory(image: Any, name: Path) -> DecodedFile:
    if isinstance(image, np.ndarray):
        return DecodedFile(name, Image.fromarray(_checked(image)))
    if not isinstance(image, Image.Image):
        raise UserError(f"{_RULE}, got {type(image).__name__}; convert it")
    try:
        image.load()
    except Exception as error:  # Pillow's plugins raise almost any type of exception on malformed input
        return DecodedFile(name, None, " ".join(str(error).split()) or type(error).__name__)
    try:
        return DecodedFile(name, ImageOps.exif_transpose(image))  # as for files
    except Exception:  # an image with a malformed EXIF block is still usable
        return DecodedFile(name, image)


def _checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    good_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not (good_shape and array.dtype == np.uint8 and array.size):
        raise UserError(f"{_RULE}, got an array of {array.dtype} and shape {array.shape}; convert it")
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
