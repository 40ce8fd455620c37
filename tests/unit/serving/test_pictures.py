from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eyegender.serving.pictures import as_pixels

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
        pd.DataFrame({"image": [base64.b64encode(png(GRAY)).decode()]}),
        {"image": GRAY[None]},
        np.array([png(GRAY)], dtype=object),
    ],
    ids=repr,
)
def test_every_way_to_hand_over_a_picture_gives_the_same_pixels(batch: object) -> None:
    np.testing.assert_array_equal(as_pixels(batch, 6, "gray"), GRAY[None, None])


def test_channels_first_and_last() -> None:
    last, first = as_pixels(RGB[None], 6, "rgb"), as_pixels(RGB[None].transpose(0, 3, 1, 2), 6, "rgb")
    np.testing.assert_array_equal(last, first)
    np.testing.assert_array_equal(last[0].transpose(1, 2, 0), RGB)


def test_any_sizes_in_one_batch() -> None:
    assert as_pixels([GRAY, png(RGB), np.zeros((50, 40), np.uint8)], 12, "gray").shape == (3, 1, 12, 12)


def test_no_picture_is_no_error() -> None:
    assert as_pixels([], 6, "rgb").shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (GRAY, "3 or 4 dimensions|must be"),
        (np.zeros((1, 6, 6, 4), np.uint8), "picture 0 must be"),
        (np.full((1, 6, 6), 256), "within 0..255"),
        (np.full((1, 6, 6), -1), "within 0..255"),
        (np.full((1, 6, 6), np.nan), "within 0..255"),
        (["not base64!"], "picture 0 is text"),
        (pd.DataFrame({"picture": [1]}), "column 'image'"),
        (np.zeros((1, 0, 6), np.uint8), "picture 0 must be"),
    ],
)
def test_what_is_no_picture_is_told(batch: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        as_pixels(batch, 6, "gray")
