from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.models.heads import LinearHead
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network
from eyegender.training import autotune as autotune_module
from eyegender.training.autotune import autotune, frozen_stages_dtype
from eyegender.training.build import TrainerSettings
from tests.composing import tiny_config


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network(MobileNetV2(), LinearHead(1280), 2)
    network.use_channels_last()
    return network


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured; the measurement runs each option once and chooses the last one, float32 contiguous."""
    names: list[str] = []

    def fastest(what: str, options: Mapping[str, Callable[[], object]], *, steps: float) -> str:
        assert steps > 0
        names.append(what)
        for run in options.values():
            run()
        return list(options)[-1]

    monkeypatch.setattr(autotune_module, "fastest", fastest)
    return names


def tuned(network: Network, *overrides: str, accelerator: str = "cpu") -> str:
    """The chosen precision."""
    settings = TrainerSettings(accelerator, 1, "auto", 1, "the rule's", 1, None)
    return autotune(tiny_config(*overrides), settings, network, 42, 32).precision


def test_a_long_run_takes_what_was_measured(network: Network, measured: list[str]) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert tuned(network, "trainer.max_epochs=10000") == "32-true"
    assert network.memory_format == torch.contiguous_format
    assert network.stages[-1][0].weight.is_contiguous()
    assert measured == ["training mobilenet_v2, last 2 stages, 32 pixels, cpu, from the cut"]
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
def test_other_runs_are_not_measured(network: Network, measured: list[str], overrides: tuple[str, ...]) -> None:
    assert tuned(network, *overrides) == "the rule's"
    assert network.memory_format == torch.channels_last
    assert measured == []


def test_a_memory_format_from_the_config_stays(network: Network, measured: list[str]) -> None:
    tuned(network, "trainer.max_epochs=10000", "trainer.channels_last=true")
    assert network.memory_format == torch.channels_last


def test_a_head_alone_on_stored_vectors_is_not_worth_measuring(measured: list[str]) -> None:
    network = Network(MobileNetV2(), LinearHead(1280), 0)
    tuned(network, "trainer.max_epochs=10000")
    assert measured == []
    tuned(network, "trainer.max_epochs=10000", "features=off")
    assert measured == ["training mobilenet_v2, last 0 stages, 32 pixels, cpu"]


LONG_RUN = "trainer.max_epochs=10000"


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What compilation is measured for, on a simulated GPU where it always pays."""
    asked: list[tuple[str, float]] = []

    def pays(what: str, _plain: object, _compiled: object, *, steps: float) -> bool:
        asked.append((what, steps))
        return True

    monkeypatch.setattr(autotune_module, "fastest", lambda _, options, steps: list(options)[-1])
    monkeypatch.setattr(autotune_module, "compiling_pays", pays)
    return asked


def test_steps_are_compiled_if_that_pays_in_a_run_of_this_length(
    network: Network, on_gpu: list[tuple[str, float]]
) -> None:
    tuned(network, LONG_RUN, "trainer.compile=false", accelerator="gpu")
    tuned(network, LONG_RUN, "trainer.max_steps=10", accelerator="gpu")  # too short
    tuned(network, LONG_RUN, "trainer.precision=16-mixed", accelerator="gpu")
    assert (on_gpu, network._compiled_call_impl) == ([], None)
    tuned(network, LONG_RUN, accelerator="gpu")
    what = "training mobilenet_v2, last 2 stages, 32 pixels, cuda, from the cut, float32, channels last False"
    assert on_gpu == [(what, 42 * 10000 / 64)]
    assert network._compiled_call_impl is not None


def test_auto_does_not_compile_on_a_cpu(network: Network, on_gpu: list[tuple[str, float]]) -> None:
    tuned(network, LONG_RUN, accelerator="cpu")
    assert (on_gpu, network._compiled_call_impl) == ([], None)


def test_compile_true_compiles_runs_of_any_length(network: Network, measured: list[str]) -> None:
    tuned(network, "trainer.compile=true")
    assert network._compiled_call_impl is not None
    assert copy.deepcopy(network)._compiled_call_impl is None


def test_compiling_without_a_compiler_is_one_line(
    network: Network, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler, got none .*set trainer.compile=auto"):
        tuned(network, "trainer.compile=true")


def test_the_type_of_frozen_stages_is_measured_if_there_are_many_passes(network: Network, measured: list[str]) -> None:
    cpu = torch.device("cpu")
    assert frozen_stages_dtype(tiny_config(), network, 32, cpu, 10) == torch.float32
    assert measured == []
    assert frozen_stages_dtype(tiny_config(), network, 32, cpu, 100_000) == torch.bfloat16
    assert measured == ["stages of mobilenet_v2, 32 pixels, cpu"]


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float32)],  # no 16 bits on a CPU
)
def test_the_type_of_frozen_stages_follows_the_precision(
    network: Network, measured: list[str], precision: str, dtype: torch.dtype
) -> None:
    cfg = tiny_config(f"trainer.precision={precision}")
    assert frozen_stages_dtype(cfg, network, 32, torch.device("cpu"), 100_000) == dtype
    assert measured == []
