"""Small folders of random images, and a separate cache folder for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celeba_files import make_celeba
from random_images import encode, random_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EYEGENDER_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a data set of two class folders with these file numbers."""

    def make(female: range = range(0, 40, 2), male: range = range(0, 40, 2), name: str = "eyes") -> Path:
        root = tmp_path / name
        for label, (eyes, numbers) in enumerate((("femaleeyes", female), ("maleeyes", male))):
            (root / eyes).mkdir(parents=True)
            for number in numbers:
                (root / eyes / f"{number}.png").write_bytes(encode(random_image(10_000 * label + number)))
        return root

    return make


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Faces 1..24 of persons 0..11; even numbers are male."""
    monkeypatch.setattr("eyegender.data.celeba._last", None)
    home = tmp_path / "celeba"
    make_celeba(home)
    return home
