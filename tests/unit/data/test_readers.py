"""Data sources that were written for an earlier version still work."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

from eyegender.data import readers
from eyegender.data.splits import official_split


def test_the_earlier_module_works_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "eyegender.data.samples", raising=False)
    with pytest.warns(FutureWarning, match=r"eyegender.data has a new module readers"):
        samples = importlib.import_module("eyegender.data.samples")
    assert samples.BadPictureError is readers.UnreadableImageError
    assert samples.Reader is readers.Reader
    made = samples.Samples(
        source="csv",
        names=tuple("abcdef"),
        labels=np.array([0, 1] * 3, dtype=np.uint8),
        digests=tuple("abcdef"),
        open=lambda i: Image.new("L", (8, 8), i),
        parts=("train", "train", "val", "val", "test", "test"),
    )
    assert isinstance(made, readers.Samples)
    assert official_split(made).test.tolist() == [4, 5]
    assert official_split(made.take(np.arange(5, -1, -1))).test.tolist() == [0, 1]
