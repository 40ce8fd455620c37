"""Entries of consecutive numbers, so that a test of files needs no network and no images."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from eyegender.features.build import Build, open_or_build

if TYPE_CHECKING:
    from collections.abc import Callable

    from eyegender.features.store import ActivationStore

IMAGES, VIEWS, SHAPE = 150, 2, (2, 3, 4)  # three chunks; maps of 4 channels, 2 x 3 pixels


class Numbers:
    """Pixel j of image i in view v is the number 100 i + 30 v + j, channels last."""

    def read(self, start: int, stop: int, view: int) -> torch.Tensor:
        values = torch.arange(start, stop).view(-1, 1) * 100 + view * 30 + torch.arange(24)
        return values.view(-1, *SHAPE).permute(0, 3, 1, 2)


def entry(
    folder: Path,
    dtype: str = "float32",
    prefix: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float,
    check: Callable[[], None] = lambda: None,
) -> Build:
    return Build(folder, IMAGES, VIEWS, SHAPE, dtype, Numbers, lambda: prefix, check)


def expected(images: list[int], view: int) -> np.ndarray:
    return np.stack([Numbers().read(i, i + 1, view)[0].numpy() for i in images])


def check_whole(store: ActivationStore) -> None:
    everything = np.arange(IMAGES)
    for view in range(VIEWS):
        assert np.array_equal(store.read(everything, view).numpy(), expected(everything.tolist(), view))


def _slow(inputs: torch.Tensor) -> torch.Tensor:
    print("computing", flush=True)
    time.sleep(0.5)
    return inputs.float()


if __name__ == "__main__":  # a builder in its own process; arguments: folder, slow or quick
    built = open_or_build(entry(Path(sys.argv[1]), prefix=_slow if sys.argv[2] == "slow" else torch.Tensor.float))
    check_whole(built)
    print("whole")
