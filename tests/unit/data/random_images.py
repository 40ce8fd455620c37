"""Pictures for tests: drawn ones, and real ones where an environment variable names them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(seed: int, side: int = 40) -> Image.Image:
    """A picture unlike any other seed's: smooth blobs, as strong as lids and brows are."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def real(variable: str) -> Path:
    """The folder that an environment variable names, or a skipped test."""
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder of real pictures")
    return Path(value)
