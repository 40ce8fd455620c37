"""Random flip, shift, scale and brightness of whole batches, on whatever device they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """Draws one change per picture; all of it is a function of the generator.

    Args:
        flip: probability of mirroring left and right, 0..1.
        shift: largest shift in each direction as a fraction of the side, 0..0.5.
        scale: largest change of size; 0.1 draws a factor between 0.9 and 1.1.
        brightness: largest relative change of brightness, likewise.
    """

    flip: float = 0.5
    shift: float = 0.05
    scale: float = 0.05
    brightness: float = 0.1

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels (B, C, S, S) in 0..255, uint8 or float, to float pixels of that shape and range.

        `generator` lives on the CPU: the same draws on every device.
        """
        batch = pixels.shape[0]
        draws = torch.rand(5, batch, generator=generator).to(pixels.device)
        signed = draws * 2 - 1
        zoom = 1 + self.scale * signed[3]
        mirror = torch.where(draws[0] < self.flip, -1.0, 1.0)
        theta = torch.zeros(batch, 2, 3, device=pixels.device)
        theta[:, 0, 0] = mirror / zoom
        theta[:, 1, 1] = 1 / zoom
        # The grid runs from -1 to 1, so a shift of one side is 2.
        theta[:, 0, 2] = 2 * self.shift * signed[1]
        theta[:, 1, 2] = 2 * self.shift * signed[2]
        image = pixels.float()
        if self.shift or self.scale:
            grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
            image = functional.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        elif self.flip:
            image = torch.where((mirror < 0).view(-1, 1, 1, 1), image.flip(3), image)
        light = 1 + self.brightness * signed[4]
        return (image * light.view(-1, 1, 1, 1)).clamp_(0, 255)
