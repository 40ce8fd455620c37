"""Scikit-learn's digits as pictures, in one folder for each of the ten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_digits(root: Path, per_class: int = 30, names: tuple[str, ...] = NAMES) -> Path:
    """Write the first pictures of each of the first digits; odd file numbers only, so that they are no sequence."""
    digits = load_digits()
    for digit, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True)
        for position, index in enumerate(np.flatnonzero(digits.target == digit)[:per_class]):
            pixels = np.rint(digits.images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{2 * position + 1}.png")
    return root
