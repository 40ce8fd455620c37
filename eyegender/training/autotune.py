"""Precision, memory format and compilation where the config leaves them to `auto`, and glibc's memory allocator."""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import os
import platform
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from eyegender.core.errors import UserError
from eyegender.features.prefix import FrozenPrefix
from eyegender.training.build import measured_name
from eyegender.training.measurements import (
    LEAST_STEPS,
    MARGIN,
    SHARE,
    cached_measurement,
    clock,
    fastest,
    machine,
    measure_seconds,
    step_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eyegender.core.schema import TrainConfig
    from eyegender.models.network import Network
    from eyegender.training.build import TrainerSettings
    from eyegender.training.measurements import Measurement

# A measurement takes seconds. Shorter runs use fixed rules whatever the cache contains, so that equal runs are equal.
# In images of 224x224 pixels.
MEASURE_TRAINING_FROM, MEASURE_FORWARD_FROM = 3000, 500
_SAMPLE = {"cpu": 8, "cuda": 64}  # images per measured step, enough to keep a GPU busy
# The first step on stored activations first computes them for its images, which takes longer than many such steps.
_LEAST_STEPS_FROM_FEATURES = 4 * LEAST_STEPS

LIGHTNING = {"bfloat16": "bf16-mixed", "float32": "32-true"}
_MEASURED_AS = {lightning: precision for precision, lightning in LIGHTNING.items()}

# Seconds that trying to compile may take. Nothing can end an attempt that takes longer.
COMPILING = 120.0
_COMPILERS = ("g++", "clang++", "c++")

# Parameter numbers of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 2**30

_log = logging.getLogger(__name__)


def work(images: float, size: int) -> float:
    """Number of images of 224x224 pixels with as many pixels as `images` images of `size` x `size`."""
    return images * (size / 224) ** 2


def autotune(
    cfg: TrainConfig, settings: TrainerSettings, network: Network, train_images: int, size: int
) -> TrainerSettings:
    """Choose precision, memory format and compilation by measurements, where the config says `auto`.

    Only runs that are much longer than the measurements are measured. `trainer.compile=auto` compiles on a GPU only:
    on a CPU, compiling takes minutes and rarely gains anything.

    Args:
        cfg: config of the run.
        settings: settings of the trainer; returned with the chosen precision.
        network: gets the chosen memory format and is compiled, in place.
        train_images: number of training images.
        size: side of the images in pixels.

    Raises:
        UserError: `trainer.compile=true`, but there is no compiler.
    """
    trainer = cfg.trainer
    from_features = network.cut > 0 and cfg.features.mode != "off"
    if trainer.compile is True:
        require_compiler(settings.accelerator)
        network.compile_steps()
    if trainer.num_nodes > 1 or (from_features and network.cut == len(network.stages)):
        return settings  # several machines must agree; a head alone is fast anyway
    images = trainer.max_epochs * train_images
    if trainer.max_steps > 0:
        images = min(images, trainer.max_steps * trainer.batch_size)
    if work(images, size) < MEASURE_TRAINING_FROM:
        return settings
    device = torch.device("cuda" if settings.accelerator == "gpu" else "cpu")
    steps = images / _SAMPLE[device.type]
    if from_features and steps < _LEAST_STEPS_FROM_FEATURES:
        return settings
    if trainer.precision == "auto":
        precision, channels_last = fastest_training(
            network, measured_name(cfg.model), size, device, from_features=from_features,
            steps=steps,
        )  # fmt: skip
        settings = replace(settings, precision=precision)
        if trainer.channels_last == "auto" and not channels_last:
            network.use_memory_format(torch.contiguous_format)
    measured_as = _MEASURED_AS.get(settings.precision)
    if trainer.compile == "auto" and device.type == "cuda" and measured_as is not None:
        channels_last = network.memory_format == torch.channels_last
        name = _measurement_name(network, measured_name(cfg.model), size, device, from_features=from_features)
        plain, compiled = (
            _step(network, size, device, measured_as, channels_last, from_features=from_features, compiled=compiled)
            for compiled in (False, True)
        )
        what = f"{name}, {measured_as}, channels last {channels_last}"
        if compiling_pays(what, plain, compiled, steps=steps):
            network.compile_steps()
    return settings


def fastest_training(
    network: Network,
    name: str,
    size: int,
    device: torch.device,
    *,
    from_features: bool,
    steps: float = math.inf,
) -> tuple[str, bool]:
    """Lightning's name of the fastest precision, and whether channels last is faster, measured on random images.

    Args:
        network: the network; it is copied, not changed.
        name: name of the backbone.
        size: side of the images in pixels.
        device: device to train on.
        from_features: training starts from stored activations, so the frozen stages do not run.
        steps: number of such steps in the whole run; see `fastest`.
    """
    options = {
        f"{precision} {'channels-last' if channels_last else 'contiguous'}": (precision, channels_last)
        for precision, channels_last in (("float32", True), ("bfloat16", True), ("float32", False))
    }
    runs = {
        option: _step(network, size, device, *values, from_features=from_features) for option, values in options.items()
    }
    what = _measurement_name(network, name, size, device, from_features=from_features)
    precision, channels_last = options[fastest(what, runs, steps=steps)]
    return LIGHTNING[precision], channels_last


def _measurement_name(network: Network, name: str, size: int, device: torch.device, *, from_features: bool) -> str:
    # Part of the name of cached measurements: another text would measure everything again.
    what = f"training {name}, last {len(network.stages) - network.cut} stages, {size} pixels, {device.type}"
    return f"{what}, from the cut" if from_features else what


def frozen_stages_dtype(
    cfg: TrainConfig, network: Network, size: int, device: torch.device, passes: int
) -> torch.dtype:
    """The type in which to compute the frozen stages.

    It follows `trainer.precision`; `auto` is measured if there are enough forward passes. All stages are measured, not
    only the frozen ones, so that entries of different depths are computed alike and can build on each other.

    Args:
        cfg: config of the run.
        network: the network; it is copied, not changed.
        size: side of the images in pixels.
        device: device to compute on.
        passes: number of forward passes.
    """
    precision = cfg.trainer.precision
    if precision == "auto":
        if work(passes, size) < MEASURE_FORWARD_FROM:
            return torch.float32
        return _fastest_prefix_dtype(network, measured_name(cfg.model), size, device, passes)
    if precision.startswith("16"):
        return torch.float16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if precision.startswith("bf16") else torch.float32


def _fastest_prefix_dtype(network: Network, name: str, size: int, device: torch.device, passes: int) -> torch.dtype:
    pixels = torch.randint(0, 256, (_SAMPLE[device.type], 1, size, size), dtype=torch.uint8)

    def option(dtype: torch.dtype) -> Callable[[], object]:
        built: list[FrozenPrefix] = []

        def run() -> object:
            if not built:  # only if it is measured
                built.append(FrozenPrefix(network, 0, len(network.stages), dtype=dtype, device=device))
            return built[0](pixels)

        return run

    chosen = fastest(
        f"stages of {name}, {size} pixels, {device.type}",
        {"float32": option(torch.float32), "bfloat16": option(torch.bfloat16)},
        steps=passes / _SAMPLE[device.type],
    )
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def _step(
    network: Network,
    size: int,
    device: torch.device,
    precision: str,
    channels_last: bool,
    *,
    from_features: bool,
    compiled: bool = False,
) -> Callable[[], object]:
    """A function that computes one training step on a copy of the network, which it makes at the first call."""
    built: list[tuple[Network, torch.Tensor]] = []

    def run() -> None:
        if not built:
            own = copy.deepcopy(network).to(device)
            own.use_memory_format(torch.channels_last if channels_last else torch.contiguous_format)
            images = _SAMPLE[device.type]
            pixels = torch.randint(0, 256, (images, 1, size, size), dtype=torch.uint8, device=device)
            with torch.no_grad():
                features = own.prefix(own.normalise(pixels)).contiguous(memory_format=own.memory_format)
            if compiled:
                own.compile_steps()
            built.append((own, features if from_features else pixels))
        own, inputs = built[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = own(inputs, is_features=from_features)
        logits.sum().backward()  # type: ignore[no-untyped-call]

    return run


def compiling_pays(
    what: str,
    plain: Callable[[], object],
    compiled: Callable[[], object],
    *,
    steps: float,
    cache: str | Path | None = None,
) -> bool:
    """Whether compiling the training step saves more time than it takes; measured once per machine and `what`.

    It is tried only in runs of which `COMPILING` seconds are no more than the `SHARE` that a measurement may take.

    Args:
        what: network, size, direction, precision and device.
        plain: computes a step.
        compiled: computes the same step compiled; the first call compiles it.
        steps: number of such steps in the whole run, so that a resumed run decides like an uninterrupted one.
        cache: cache folder, see `cache_folder`.
    """
    key = f"{what}; {machine()}; torch {torch.__version__}; triton"
    if steps < LEAST_STEPS or SHARE * steps * step_seconds(key, plain, cache)["seconds"] < COMPILING:
        return False
    found, is_new = cached_measurement(
        f"compiled {key}",
        lambda found: "failed" in found or found["plain"] > 0,
        lambda: _measure_compiled(plain, compiled),
        cache,
    )
    if "failed" in found:
        _log.debug("%s: steps cannot be compiled (%s)", what, found["failed"])
        return False
    saved = steps * (found["plain"] - found["compiled"])
    pays = bool(saved > found["cost"] and found["compiled"] < MARGIN * found["plain"])
    if is_new or pays:
        _log.info(
            "%s: steps are %scompiled (compiled %.0f ms, not compiled %.0f ms; compiling takes %.0f s)",
            what, "" if pays else "not ", 1000 * found["compiled"], 1000 * found["plain"], found["cost"],
        )  # fmt: skip
    return pays


def _measure_compiled(plain: Callable[[], object], compiled: Callable[[], object]) -> Measurement:
    start = clock()
    try:
        with torch.random.fork_rng():
            compiled()
    except Exception as error:  # the compiler may raise anything; steps then run uncompiled
        return {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}
    cost = clock() - start
    return {"cost": cost, **measure_seconds({"plain": plain, "compiled": compiled})}


def require_compiler(accelerator: str) -> None:
    """Raises UserError if steps for a CPU cannot be compiled."""
    if accelerator != "gpu" and find_compiler() is None:
        raise UserError(
            f"trainer.compile=true needs a C++ compiler, got none of $CXX, {', '.join(_COMPILERS)}; install one, or "
            "set trainer.compile=auto"
        )


def find_compiler() -> str | None:
    """Path of the C++ compiler that torch would use."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS
    return next((found for found in map(shutil.which, names) if found is not None), None)


def tune_malloc() -> bool:
    """Let glibc keep freed memory for the next allocation; returns whether this took effect.

    By default, glibc maps every block above 32 MiB and unmaps it when it is freed. Activations are such blocks, so the
    kernel would clear the same pages at every step on a CPU. The process keeps at most what it used at its peak.
    Without glibc, or if the user has set `MALLOC_*` variables, nothing changes.
    """
    user_set = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in user_set):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, _LARGE), mallopt(_M_TRIM_THRESHOLD, -1)])
