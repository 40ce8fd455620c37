"""Precision and memory layout of training and of the frozen stages, where the config leaves them open."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from eyegender.features.compile_choice import compiling_pays, needs_compiler
from eyegender.features.precision_choice import quickest
from eyegender.features.prefix import FrozenPrefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from eyegender.core.schema import TrainConfig
    from eyegender.models.network import Network

# A measurement takes some seconds of the work itself. Shorter work goes by the rule below, whatever is in the cache, so
# that equal runs are equal. Counted in pictures of 224x224.
MEASURE_TRAINING_FROM, MEASURE_FORWARD_FROM = 3000, 500
_SAMPLE = {"cpu": 8, "cuda": 64}  # pictures per measured step; on fewer a GPU would only be waited for

LIGHTNING = {"bfloat16": "bf16-mixed", "float32": "32-true"}
_MEASURED_AS = {lightning: precision for precision, lightning in LIGHTNING.items()}


def work(pictures: float, size: int) -> float:
    """Passes of `pictures` pictures, in passes of pictures of 224x224."""
    return pictures * (size / 224) ** 2


def settle(cfg: TrainConfig, arguments: dict[str, Any], network: Network, train_pictures: int, size: int) -> None:
    """Put the precision into Lightning's `arguments`, and `network` into the layout, that are quickest here.

    Only what the config leaves to `auto`, and only for runs that are long enough for a measurement. Steps are compiled
    where that saves more than it takes.

    Raises:
        UserError: compiled steps are asked for and cannot be had.
    """
    trainer = cfg.trainer
    stored = network.cut > 0 and cfg.features.mode != "off"
    if trainer.compile is True:
        needs_compiler(arguments["accelerator"])
        network.compile_steps()
    if trainer.num_nodes > 1 or (stored and network.cut == len(network.stages)):
        return  # machines must not disagree; a head alone is quick anyway
    pictures = trainer.max_epochs * train_pictures
    if trainer.max_steps > 0:
        pictures = min(pictures, trainer.max_steps * trainer.batch_size)
    if work(pictures, size) < MEASURE_TRAINING_FROM:
        return
    device = torch.device("cuda" if arguments["accelerator"] == "gpu" else "cpu")
    if trainer.precision == "auto":
        arguments["precision"], last = training_way(network, cfg.model.name, size, device, from_cut=stored)
        if trainer.channels_last == "auto" and not last:
            lay_out(network, channels_last=False)
    precision = _MEASURED_AS.get(arguments["precision"])
    if trainer.compile == "auto" and precision is not None:
        last = network.memory_format == torch.channels_last
        what = f"{_what(network, cfg.model.name, size, device, from_cut=stored)}, {precision}, channels last {last}"
        steps = [
            _step(network, size, device, precision, last, from_cut=stored, compiled=compiled)
            for compiled in (False, True)
        ]
        if compiling_pays(what, *steps, number=pictures / _SAMPLE[device.type], device=device):
            network.compile_steps()


def lay_out(network: Network, *, channels_last: bool) -> None:
    """Weights, and from now on inputs, in this memory layout."""
    network.use_memory_format(torch.channels_last if channels_last else torch.contiguous_format)


def training_way(network: Network, name: str, size: int, device: torch.device, *, from_cut: bool) -> tuple[str, bool]:
    """Lightning's precision, and whether to lay tensors out channels last, measured on a few random pictures.

    Args:
        network: is copied, not changed.
        name: of the backbone.
        size: side of the pictures in pixels.
        device: to train on.
        from_cut: the frozen stages will not run.
    """
    ways = {
        f"{precision} {'channels-last' if last else 'contiguous'}": (precision, last)
        for precision, last in (("float32", True), ("bfloat16", True), ("float32", False))
    }
    steps = {told: _step(network, size, device, *way, from_cut=from_cut) for told, way in ways.items()}
    precision, last = ways[quickest(_what(network, name, size, device, from_cut=from_cut), steps)]
    return LIGHTNING[precision], last


def _what(network: Network, name: str, size: int, device: torch.device, *, from_cut: bool) -> str:
    what = f"training {name}, last {len(network.stages) - network.cut} stages, {size} pixels, {device.type}"
    return f"{what}, from the cut" if from_cut else what


def prefix_dtype(network: Network, name: str, size: int, device: torch.device) -> torch.dtype:
    """What to compute frozen stages in; all stages decide, so that depths compute alike and start from each other."""
    pixels = torch.randint(0, 256, (_SAMPLE[device.type], 1, size, size), dtype=torch.uint8)

    def way(dtype: torch.dtype) -> Callable[[], object]:
        prefix: list[FrozenPrefix] = []

        def run() -> object:
            if not prefix:  # made only if it is measured at all
                prefix.append(FrozenPrefix(network, 0, len(network.stages), dtype=dtype, device=device))
            return prefix[0](pixels)

        return run

    chosen = quickest(
        f"stages of {name}, {size} pixels, {device.type}",
        {"float32": way(torch.float32), "bfloat16": way(torch.bfloat16)},
    )
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def _step(
    network: Network,
    size: int,
    device: torch.device,
    precision: str,
    channels_last: bool,
    *,
    from_cut: bool,
    compiled: bool = False,
) -> Callable[[], object]:
    made: list[tuple[Network, torch.Tensor]] = []

    def run() -> None:
        if not made:
            own = copy.deepcopy(network).to(device)
            lay_out(own, channels_last=channels_last)
            pictures = _SAMPLE[device.type]
            pixels = torch.randint(0, 256, (pictures, 1, size, size), dtype=torch.uint8, device=device)
            with torch.no_grad():
                given = own.prefix(own.normalise(pixels)).contiguous(memory_format=own.memory_format)
            if compiled:
                own.compile_steps()
            made.append((own, given if from_cut else pixels))
        own, given = made[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = own(given, is_features=from_cut)
        logits.sum().backward()  # type: ignore[no-untyped-call]

    return run
