"""What a network costs to use: parameters, and the time for one picture on this machine."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.network import Network

WARMUP, REPEATS = 5, 30


def cost(network: Network, data: EyesDataModule) -> dict[str, float]:
    """`parameters`, and `latency_ms`: the median of 30 single pictures in eval mode, on the network's device."""
    device = next(network.parameters()).device
    picture = torch.zeros(1, data.channels, data.size, data.size, dtype=torch.uint8, device=device)
    was_training, times = network.training, []
    network.eval()
    with torch.inference_mode():
        for _ in range(WARMUP + REPEATS):
            began = time.perf_counter()
            network(picture).item()  # waits for the device
            times.append(time.perf_counter() - began)
    network.train(was_training)
    return {
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "latency_ms": 1000 * statistics.median(times[WARMUP:]),
    }
