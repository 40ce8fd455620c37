"""The forms of a picture that are stored: the original, its mirror image, and random draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eyegender.models.augment import Augment


@dataclass(frozen=True)
class Views:
    """The original comes first, then its mirror image if wanted, then the draws.

    Args:
        mirrored: also keep the mirror image.
        draws: number of random changes per picture.
        augment: what draws them; None goes with `draws=0`.
        seed: of the draws.
    """

    mirrored: bool = False
    draws: int = 0
    augment: Augment | None = None
    seed: int = 0

    def __len__(self) -> int:
        return 1 + self.mirrored + self.draws

    @property
    def told(self) -> str:
        """All that the views depend on, as text."""
        names = "original mirrored" if self.mirrored else "original"
        return f"{names} {self.draws} x {self.augment} seed {self.seed}" if self.draws else names

    def make(self, pixels: Tensor, view: int, first_row: int) -> Tensor:
        """The view numbered `view` of pixels (B, C, S, S) in 0..255, uint8 or float; same shape and range.

        Args:
            pixels: pictures in a fixed order.
            view: 0..len - 1.
            first_row: of `pixels` among all pictures. With it and the seed, draws are the same in every process.
        """
        if view == 0:
            return pixels
        if view == 1 and self.mirrored:
            return pixels.flip(3)
        assert self.augment is not None
        generator = torch.Generator().manual_seed(hash((self.seed, view, first_row)) & 0x7FFF_FFFF_FFFF_FFFF)
        return self.augment(pixels, generator)


def training_views(count: int, augment: Augment | None, seed: int) -> Views:
    """At most `count` views of a training picture.

    Without augmentation there is one; without mirroring in the augmentation, no mirror image.
    """
    if augment is None or count == 1:
        return Views()
    mirrored = augment.flip > 0
    draws = count - 1 - mirrored
    return Views(mirrored, draws, augment if draws else None, seed if draws else 0)
