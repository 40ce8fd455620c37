"""What a network costs to keep and to ask: parameters, multiply-adds, and time on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from eyegender.models.saved_network import Card, untrained

if TYPE_CHECKING:
    from eyegender.models.network import Network

WARM_UP = 3
REPEATS, FEWEST, MOST_SECONDS = 20, 3, 5.0


def count_parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: Network, card: Card) -> int:
    """Of one picture, convolutions and matrix products only: torch counts two operations for each multiply-add."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(_one_picture(card))
    passes = 2 if card.flip_average else 1
    return passes * int(counter.get_total_flops()) // 2


def measure_latency(network: Network, card: Card) -> float:
    """Fewest milliseconds from pixels to logit, one picture at a time, with torch's threads as set."""
    pixels = _one_picture(card)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            network(pixels)
            if card.flip_average:
                network(pixels.flip(3))
            times.append(time.perf_counter() - began)
            if len(times) > WARM_UP + FEWEST and sum(times) > MOST_SECONDS:
                break
    # The fewest, not the median: everything above it is some other program's work.
    return 1000.0 * min(times[WARM_UP:])


def costs(card: Card, *, latency: bool) -> tuple[int, int, float | None]:
    """Parameters, multiply-adds and milliseconds per picture of an architecture, measured once per process.

    The one place where they are measured, so that a sweep's objective and a comparison say the same of a network: on
    the processor, with whatever weights, since a network's time does not depend on them.
    """
    # What a card says beside its architecture costs nothing at use.
    return _costs(replace(card, depth=0, classes=("0", "1")), latency=latency)


@cache
def _costs(card: Card, *, latency: bool) -> tuple[int, int, float | None]:
    network = untrained(card)
    measured = measure_latency(network, card) if latency else None
    return count_parameters(network), count_multiply_adds(network, card), measured


def _one_picture(card: Card) -> torch.Tensor:
    return torch.zeros((1, 1 if card.color == "gray" else 3, card.size, card.size), dtype=torch.uint8)
