"""The seconds of each stage, and how carefully they are measured."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from eyegender.models.augment import Augment
from eyegender.models.heads import LinearHead
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network
from eyegender.training import stage_seconds
from eyegender.training.stage_seconds import StageSeconds, StageTiming

STAGES = 19


def timing(batch: int = 64) -> StageTiming:
    network = Network(MobileNetV2(), LinearHead(MobileNetV2.channels), depth=4)
    return StageTiming(
        network, "mobilenet_v2", 32, batch, torch.device("cpu"), torch.float32, "float16", "float32", Augment()
    )


def test_every_part_takes_time_and_the_network_stays_as_it_was() -> None:
    own = timing(batch=4)
    before = {name: tensor.clone() for name, tensor in own.network.state_dict().items()}
    trainable = {name for name, _ in own.network.trainable()}
    state = torch.get_rng_state()
    found = own.measure(lambda _found: 0.0)
    assert len(found.frozen) == len(found.forward) == len(found.training) == STAGES
    # The processor's clock may tick too slowly for a single small stage, but not for all of them.
    assert min(sum(found.frozen), sum(found.forward), sum(found.training)) > 0
    assert sum(found.training) > sum(found.forward)
    assert all(value >= 0 for value in dataclasses.astuple(found)[3:])
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.network.state_dict().items())
    assert {name for name, _ in own.network.trainable()} == trainable
    assert torch.equal(torch.get_rng_state(), state)


def test_a_measurement_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = timing(batch=3)
    first = own.measure(lambda _found: 0.0)
    monkeypatch.setattr(stage_seconds, "_Parts", None)
    assert timing(batch=3).measure(lambda _found: 0.0) == first


@pytest.mark.parametrize(
    ("seconds", "measured"),
    [
        (10, [(8, 2)]),  # 2% are 20 images of 10 ms
        (60, [(8, 2), (32, 2)]),  # 120 images: three passes of 32, the first to warm up
        (100, [(8, 2), (64, 2)]),  # 200 images
        (500, [(8, 2), (64, 5)]),
    ],
)
def test_a_longer_sweep_is_measured_more_carefully(
    monkeypatch: pytest.MonkeyPatch, seconds: float, measured: list[tuple[int, int]]
) -> None:
    calls: list[tuple[int, int]] = []

    def cached(_self: StageTiming, images: int, rounds: int) -> StageSeconds:
        calls.append((images, rounds))
        zeros = (0.0,) * STAGES
        return StageSeconds(zeros, zeros, zeros, 0, 0, 0, 0, 0, measured=0.01 * images * rounds)

    monkeypatch.setattr(StageTiming, "_cached", cached)
    timing().measure(lambda _found: seconds)
    assert calls == measured
