"""The costs of a network: parameters, multiply-adds, and latency on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from eyegender.models.saved_network import ModelSpec, untrained

if TYPE_CHECKING:
    from eyegender.models.network import Network

WARM_UP = 3
REPEATS, MIN_REPEATS, MAX_SECONDS = 20, 3, 5.0


def count_parameters(network: Network) -> int:
    """Number of weights, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: Network, spec: ModelSpec) -> int:
    """Multiply-adds of the convolutions and matrix products for one image."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(_one_image(spec))
    passes = 2 if spec.flip_average else 1
    return passes * int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def measure_latency(network: Network, spec: ModelSpec) -> float:
    """Shortest time from the pixels of one image to its logit in milliseconds, with the current number of threads."""
    pixels = _one_image(spec)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            network(pixels)
            if spec.flip_average:
                network(pixels.flip(3))
            times.append(time.perf_counter() - began)
            if len(times) > WARM_UP + MIN_REPEATS and sum(times) > MAX_SECONDS:
                break
    # The minimum, not the median: longer times are due to other programs.
    return 1000.0 * min(times[WARM_UP:])


def costs(spec: ModelSpec, *, latency: bool) -> tuple[int, int, float | None]:
    """Parameters, multiply-adds and milliseconds per image of an architecture, measured once per process on the CPU.

    The objective of a sweep and the comparison of runs both use this function. The weights are random, because latency
    does not depend on them.

    Args:
        spec: specification of the network.
        latency: measure milliseconds, too; otherwise they are None.
    """
    # Fields that do not change the architecture must not cause another measurement.
    return _costs(replace(spec, depth=0, classes=tuple(map(str, range(len(spec.classes))))), latency=latency)


@cache
def _costs(spec: ModelSpec, *, latency: bool) -> tuple[int, int, float | None]:
    network = untrained(spec)
    measured = measure_latency(network, spec) if latency else None
    return count_parameters(network), count_multiply_adds(network, spec), measured


def _one_image(spec: ModelSpec) -> torch.Tensor:
    return torch.zeros((1, 1 if spec.color == "gray" else 3, spec.size, spec.size), dtype=torch.uint8)
