"""Asks a network in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.models.network import Network
    from eyegender.models.saved_network import Card

BATCH = 256


def logits(network: Network, card: Card, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, C, S, S), uint8, to logits (B,); averaged with the mirror images' where the card says so."""
    found: torch.Tensor = network(pixels)
    if card.flip_average:
        found = (found + network(pixels.flip(3))) / 2
    return found


def probabilities(network: Network, card: Card, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (N, C, S, S) to probabilities of label 1, float32 of shape (N,), on the network's device."""
    device = network.mean.device
    parts = [np.zeros(0, np.float32)]
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(pixels[start : start + BATCH]).to(device)
            parts.append(torch.sigmoid(logits(network, card, batch)).cpu().numpy())
    return np.concatenate(parts)
