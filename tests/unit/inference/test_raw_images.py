from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from eyegender.inference.raw_images import as_pixels

GRAY = np.arange(36, dtype=np.uint8).reshape(6, 6)
RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "batch",
    [
        GRAY[None],
        GRAY[None, ..., None],
        GRAY[None, None],
        GRAY[None].astype(np.int64),
        GRAY[None] / 255,
        (GRAY[None] / 255).astype(np.float32),
        GRAY[None].astype(np.float32),
        GRAY[None].tolist(),
        [GRAY],
        [png(GRAY)],
        [base64.b64encode(png(GRAY)).decode()],
        ["data:image/png;base64," + base64.b64encode(png(GRAY)).decode()],
        png(GRAY),
        pd.DataFrame({"image": [png(GRAY)]}),
        pd.DataFrame({"picture": [png(GRAY)]}),
        pd.DataFrame({"image": [base64.b64encode(png(GRAY)).decode()]}),
        {"image": GRAY[None]},
        np.array([png(GRAY)], dtype=object),
        memoryview(png(GRAY)),
        [bytearray(png(GRAY))],
        torch.tensor(GRAY[None] / 255, requires_grad=True),
        [torch.tensor(GRAY)],
    ],
    ids=lambda batch: repr(batch).partition(" at 0x")[0],  # the same in every process
)
def test_every_form_of_an_image_gives_the_same_pixels(batch: object) -> None:
    np.testing.assert_array_equal(as_pixels(batch, 6, "gray"), GRAY[None, None])


def test_channels_first_and_last() -> None:
    last, first = as_pixels(RGB[None], 6, "rgb"), as_pixels(RGB[None].transpose(0, 3, 1, 2), 6, "rgb")
    np.testing.assert_array_equal(last, first)
    np.testing.assert_array_equal(last[0].transpose(1, 2, 0), RGB)


def test_any_sizes_in_one_batch() -> None:
    assert as_pixels([GRAY, png(RGB), np.zeros((50, 40), np.uint8)], 12, "gray").shape == (3, 1, 12, 12)


def test_an_empty_batch_is_allowed() -> None:
    assert as_pixels([], 6, "rgb").shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (GRAY, "3 or 4 dimensions, got 6 of shape .6,.; add the first"),
        (np.zeros((6, 6, 4), np.uint8), "image 0 must be .* got .6, 6, 4."),
        (np.zeros((1, 6, 6, 4), np.uint8), "image 0 must be"),
        (np.full((1, 6, 6), 256), "within 0..255"),
        (np.full((1, 6, 6), -1), "within 0..255"),
        (np.full((1, 6, 6), np.nan), "within 0..255"),
        (["not base64!"], "image 0 is text"),
        (["a.png"], "image 0 is text"),
        ([png(GRAY), b"not an image"], "image 1 cannot be read: not a JPEG"),
        ([GRAY, None], "image 1 is neither an array .*, got NoneType"),
        (None, "image 0 is neither an array .*, got NoneType"),
        ([Path("a.png")], "image 0 is neither an array .*, got PosixPath"),
        ([{"image": GRAY}], "image 0 is neither an array .*, got dict"),
        (np.full((1, 6, 6), True), "must hold numbers, got bool"),
        (np.full((1, 6, 6), 1.5), "within 0..1 or 0..255, got a largest value of 1.5, which fits neither"),
        (np.full((1, 6, 6), -0.5), "within 0..255 .* got -0.5 to -0.5"),
        (np.full((1, 6, 6), 300.0), "within 0..255"),
        (np.full((1, 6, 6), np.inf), "within 0..255"),
        (pd.DataFrame({"picture": [1], "other": [2]}), "column 'image', got 2 others"),
        (np.zeros((1, 0, 6), np.uint8), "image 0 must be"),
    ],
)
def test_what_is_not_an_image_is_refused(batch: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        as_pixels(batch, 6, "gray")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_range_of_each_float_image_is_inferred_separately(kind: type) -> None:
    unit, bytes_ = (GRAY / 255).astype(kind), GRAY.astype(kind)
    bright = np.full((6, 6), 0.5, kind)
    above = bright.copy()
    above[0, 0] = 1.0009
    both = as_pixels([unit, bytes_, bright, above], 6, "gray")
    for alone, image in zip(both, (unit, bytes_, bright, above), strict=True):
        np.testing.assert_array_equal(as_pixels(image[None], 6, "gray")[0], alone)
    np.testing.assert_array_equal(both[0], both[1])
    assert both[3, 0, 0, 0] == 255
    assert both[3, 0, 1, 1] == both[2, 0, 1, 1] == 128
    batch = np.stack([bright, above])
    np.testing.assert_array_equal(as_pixels(batch, 6, "gray"), both[2:])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_limit_of_the_range_is_in_the_precision_of_the_image(kind: type) -> None:
    limit = np.full((1, 6, 6), 1.001, kind)
    assert as_pixels(limit, 6, "gray").min() == 255
    with pytest.raises(ValueError, match="fits neither"):
        as_pixels(np.nextafter(limit, kind(2)), 6, "gray")


WRAPPED = ["array", "lists", "objects", "list of arrays"]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: x.tolist(), lambda x: x.astype(object)], ids=WRAPPED[:3])
def test_dark_integers_stay_dark_beside_floats(wrap: Callable[[np.ndarray], object]) -> None:
    dark = np.eye(6, dtype=np.uint8)
    given = [wrap(dark), wrap(np.full((6, 6), 0.5))]
    pixels = as_pixels(given, 6, "gray")
    np.testing.assert_array_equal(pixels[0, 0], dark)
    assert pixels[1, 0, 0, 0] == 128


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: x.tolist(), lambda x: x.astype(object), list], ids=WRAPPED)
def test_a_single_image_with_its_channels_last_is_one_image(wrap: Callable[[np.ndarray], object]) -> None:
    np.testing.assert_array_equal(as_pixels(wrap(RGB), 6, "rgb"), as_pixels(RGB[None], 6, "rgb"))
    np.testing.assert_array_equal(as_pixels(wrap(RGB / 255), 6, "rgb"), as_pixels(RGB[None], 6, "rgb"))
    np.testing.assert_array_equal(as_pixels(wrap(GRAY[..., None]), 6, "gray"), GRAY[None, None])
