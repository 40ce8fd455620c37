"""Generated JPEG eyes for `benchmarks.gpu`, in a module of its own, because each process that draws imports it."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.image_folders import CLASSES
from eyegender.data.synthetic import SyntheticReader

if TYPE_CHECKING:
    from pathlib import Path

SEED = 0


@dataclass(frozen=True)
class Draw:
    """Writes one generated eye as a JPEG file of an ordinary quality."""

    folder: Path
    images: int

    def __call__(self, numbers: range) -> None:
        reader = SyntheticReader(self.images, seed=SEED)
        labels = reader.read().labels
        for number in numbers:
            path = self.folder / CLASSES[int(labels[number])] / f"{number:06d}.jpg"
            reader.draw(number).save(path, quality=92)


def eyes(folder: Path, images: int) -> Path:
    """Class folders with generated JPEG images; they are made once."""
    root, complete = folder / "eyes", folder / "eyes-complete"
    if not complete.exists():
        for name in CLASSES:
            (root / name).mkdir(parents=True, exist_ok=True)
        draw, count = Draw(root, images), min(len(os.sched_getaffinity(0)), images // 50 + 1)
        if count == 1:
            draw(range(images))
        else:
            with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
                list(pool.map(draw, [range(start, images, count) for start in range(count)]))
        complete.touch()
    return root
