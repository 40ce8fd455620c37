"""Images for tests: random ones, and real ones if an environment variable names them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def random_image(seed: int, side: int = 40) -> Image.Image:
    """An image that differs from those of all other seeds: smooth blobs with the contrast of lids and brows."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def real(variable: str) -> Path:
    """The folder in an environment variable; without it, the test is skipped."""
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not name a folder of real images")
    return Path(value)
