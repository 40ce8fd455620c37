"""Random flip, shift, scale, rotation, brightness and erasing of whole batches, on the device of the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from eyegender.data.loader import to_device


@dataclass(frozen=True)
class Augment:
    """Changes each image at random; the result depends only on the generator.

    Args:
        flip: probability of a horizontal flip, 0..1.
        shift: largest shift in each direction, as a fraction of the side, 0..0.5.
        scale: largest change of size; 0.1 samples a factor between 0.9 and 1.1.
        brightness: largest relative change of brightness; 0.1 samples a factor between 0.9 and 1.1.
        rotate: largest rotation in either direction, in degrees, 0..180.
        erase: probability of replacing a square with gray, 0..1. Its side is a fifth to two fifths of the image's
            (random erasing, Zhong et al. 2020, arXiv 1708.04896, restricted to gray squares).
    """

    flip: float = 0.5
    shift: float = 0.05
    scale: float = 0.05
    brightness: float = 0.1
    rotate: float = 0.0
    erase: float = 0.0

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Map pixels (B, C, S, S) in 0..255, uint8 or float, to float pixels of the same shape and range.

        `generator` is a CPU generator, so that every device gets the same random numbers.
        """
        batch = pixels.shape[0]
        draws = torch.rand(5, batch, generator=generator)
        signed = draws * 2 - 1
        zoom = 1 + self.scale * signed[3]
        mirror = torch.where(draws[0] < self.flip, -1.0, 1.0)
        # Some numbers per image: computed on the CPU, because each would be a kernel of its own on a GPU.
        theta = torch.zeros(batch, 2, 3)
        angle = torch.zeros(batch)
        if self.rotate:
            angle = math.radians(self.rotate) * self._extra_draws(1, batch, generator)[0]
        theta[:, 0, 0] = mirror * angle.cos() / zoom
        theta[:, 0, 1] = -mirror * angle.sin() / zoom
        theta[:, 1, 0] = angle.sin() / zoom
        theta[:, 1, 1] = angle.cos() / zoom
        # The grid runs from -1 to 1, so a shift of one side is 2.
        theta[:, 0, 2] = 2 * self.shift * signed[1]
        theta[:, 1, 2] = 2 * self.shift * signed[2]
        image = pixels.float()
        if self.shift or self.scale or self.rotate:
            grid = functional.affine_grid(to_device(theta, image.device), list(image.shape), align_corners=False)
            image = functional.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        elif self.flip:
            image = torch.where(to_device(mirror < 0, image.device).view(-1, 1, 1, 1), image.flip(3), image)
        light = to_device(1 + self.brightness * signed[4], image.device)
        image = (image * light.view(-1, 1, 1, 1)).clamp_(0, 255)
        if not self.erase:
            return image
        return self._erased(image, to_device(self._extra_draws(4, batch, generator), image.device))

    @staticmethod
    def _extra_draws(rows: int, batch: int, generator: torch.Generator) -> Tensor:
        """Random numbers in -1..1 for an option that is off by default, drawn after those of all other options."""
        return torch.rand(rows, batch, generator=generator) * 2 - 1

    def _erased(self, image: Tensor, draws: Tensor) -> Tensor:
        side = image.shape[-1]
        centers = (torch.arange(side, device=image.device) + 0.5) / side * 2 - 1  # of pixels, -1..1
        half = 0.3 + 0.1 * draws[0]
        inside = (centers - draws[1, :, None] * (1 - half[:, None])).abs() < half[:, None]
        across = (centers - draws[2, :, None] * (1 - half[:, None])).abs() < half[:, None]
        chosen = (draws[3] + 1) / 2 < self.erase
        hole = inside[:, None, :, None] & across[:, None, None, :] & chosen[:, None, None, None]
        return image.masked_fill(hole, 127.5)
