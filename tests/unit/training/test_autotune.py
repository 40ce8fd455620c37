from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.models.heads import LinearHead
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network
from eyegender.training import autotune as quick_training
from tests.composing import tiny_config


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network(MobileNetV2(), LinearHead(1280), 2)
    network.use_channels_last()
    return network


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured; the measurement itself runs each way once and prefers the last one, float32 contiguous."""
    asked: list[str] = []

    def quickest(what: str, ways: Mapping[str, Callable[[], object]]) -> str:
        asked.append(what)
        for way in ways.values():
            way()
        return list(ways)[-1]

    monkeypatch.setattr(quick_training, "quickest", quickest)
    monkeypatch.setattr(quick_training, "compiling_pays", lambda *_, **__: False)
    return asked


def settle(network: Network, *overrides: str) -> dict[str, object]:
    arguments: dict[str, object] = {"accelerator": "cpu", "precision": "the rule's"}
    quick_training.settle(tiny_config(*overrides), arguments, network, 42, 32)
    return arguments


def test_a_long_run_takes_what_was_measured(network: Network, chosen: list[str]) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert settle(network, "trainer.max_epochs=10000")["precision"] == "32-true"
    assert network.memory_format == torch.contiguous_format
    assert network.stages[-1][0].weight.is_contiguous()
    assert chosen == ["training mobilenet_v2, last 2 stages, 32 pixels, cpu, from the cut"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.max_epochs=5",),  # too short for a measurement
        ("trainer.max_epochs=10000", "trainer.precision=32-true"),  # chosen by the user
        ("trainer.max_epochs=10000", "trainer.num_nodes=2"),  # machines must not disagree
    ],
)
def test_otherwise_nothing_changes(network: Network, chosen: list[str], overrides: tuple[str, ...]) -> None:
    assert settle(network, *overrides)["precision"] == "the rule's"
    assert network.memory_format == torch.channels_last
    assert chosen == []


def test_a_layout_that_the_user_chose_stays(network: Network, chosen: list[str]) -> None:
    settle(network, "trainer.max_epochs=10000", "trainer.channels_last=true")
    assert network.memory_format == torch.channels_last


def test_a_head_alone_on_stored_vectors_is_not_worth_measuring(chosen: list[str]) -> None:
    network = Network(MobileNetV2(), LinearHead(1280), 0)
    settle(network, "trainer.max_epochs=10000")
    assert chosen == []
    settle(network, "trainer.max_epochs=10000", "features=off")
    assert chosen == ["training mobilenet_v2, last 0 stages, 32 pixels, cpu"]


def test_steps_are_compiled_where_that_pays_in_a_run_of_this_length(
    network: Network, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def pays(what: str, plain: Callable[[], object], _: object, *, number: float, device: torch.device) -> bool:
        asked.append((what, number))
        plain()
        return True

    monkeypatch.setattr(quick_training, "compiling_pays", pays)
    settle(network, "trainer.max_epochs=10000", "trainer.compile=false")
    settle(network, "trainer.max_epochs=10000", "trainer.max_steps=10")  # too short to ask
    settle(network, "trainer.max_epochs=10000", "trainer.precision=16-mixed")
    assert (asked, network._compiled_call_impl) == ([], None)
    settle(network, "trainer.max_epochs=10000")
    what = "training mobilenet_v2, last 2 stages, 32 pixels, cpu, from the cut, float32, channels last False"
    assert asked == [(what, 42 * 10000 / 8)]
    assert network._compiled_call_impl is not None


def test_compiling_may_be_asked_for_whatever_the_length(network: Network, chosen: list[str]) -> None:
    settle(network, "trainer.compile=true")
    assert network._compiled_call_impl is not None
    assert copy.deepcopy(network)._compiled_call_impl is None


def test_compiling_without_a_compiler_is_one_line(
    network: Network, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler, got none .*set trainer.compile=auto"):
        settle(network, "trainer.compile=true")


def test_the_frozen_stages_own_precision(network: Network, chosen: list[str]) -> None:
    assert quick_training.prefix_dtype(network, "mobilenet_v2", 32, torch.device("cpu")) == torch.bfloat16
    assert chosen == ["stages of mobilenet_v2, 32 pixels, cpu"]
