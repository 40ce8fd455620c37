"""Class folders of eyes for the benchmarks: synthetic ones, or a selection of real ones."""

from __future__ import annotations

import csv
from shutil import copyfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("femaleeyes", "maleeyes")


def class_folders(folder: Path, count: int, eyes: Path | None) -> Path:
    """A folder with `images/` (class folders with `count` images, half of each class) and their `split.csv`.

    The images are generated at 96 pixels, or copied from the class folders of `eyes`. 70% are for training, 10% for
    validation, 20% for testing.
    """
    images = folder / "images"
    for name in CLASSES:
        (images / name).mkdir(parents=True)
    if eyes is None:
        _generate(images, count)
    else:
        _copy(images, count, eyes)
    with (folder / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for name in CLASSES:
            paths = sorted(path.name for path in (images / name).iterdir())
            order = np.random.default_rng(0).permutation(len(paths)) / len(paths)
            parts = np.where(order < 0.7, "train", np.where(order < 0.8, "val", "test")).tolist()
            writer.writerows((f"{name}/{path}", name, part) for path, part in zip(paths, parts, strict=True))
    return folder


def _copy(images: Path, count: int, eyes: Path) -> None:
    for name in CLASSES:
        found = sorted(path for path in (eyes / name).iterdir() if path.suffix.lower() in {".jpg", ".png"})
        if len(found) < count // 2:
            raise SystemExit(f"{eyes / name} holds {len(found)} images, not {count // 2}; ask for fewer with --images")
        for path in found[: count // 2]:
            copyfile(path, images / name / path.name)


def _generate(images: Path, count: int) -> None:
    from eyegender.data.synthetic import SyntheticReader

    samples = SyntheticReader(count, seed=0).read()
    for i, label in enumerate(np.asarray(samples.labels).tolist()):
        samples.open(i).save(images / CLASSES[label] / f"{i:06d}.png")
