"""How much `benchmarks.gpu` measures, with a GPU and without, and what its parts share."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eyegender.core.schema import TrainConfig

Case = tuple[str, int]  # name of the backbone and side of its images in pixels


@dataclass(frozen=True)
class Sizes:
    """How much to measure.

    Args:
        images: JPEG images.
        cases: backbones and sizes.
        batches: batch sizes; the first one is that of the runs.
        seconds: length of one measurement of a steady state.
        warm_up: steps before it.
        profiled: profiled steps.
        trials: trials of a sweep.
        trial_images: images of a trial.
    """

    images: int
    cases: tuple[Case, ...]
    batches: tuple[int, ...]
    seconds: float
    warm_up: int
    profiled: int
    trials: int
    trial_images: int


FULL = Sizes(6000, (("mobilenet_v2", 224), ("inception_v3", 299)), (64, 256), 1.2, 6, 6, 12, 600)
SMALL = Sizes(64, (("mobilenet_v2", 32), ("inception_v3", 75)), (8,), 0.1, 1, 2, 2, 60)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def synchronized() -> float:
    """The time after the GPU has done everything that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def fresh_memory() -> None:
    """Give back what the last measurement left, and forget its peak."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> str:
    return f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if torch.cuda.is_available() else "no GPU"


def rate(step: Callable[[], object], images: int, sizes: Sizes) -> float:
    """Images per second of a step in its steady state."""

    def run(steps: int) -> float:
        began = synchronized()
        for _ in range(steps):
            step()
        return synchronized() - began

    run(sizes.warm_up)
    steps = max(sizes.warm_up, round(sizes.seconds * sizes.warm_up / run(sizes.warm_up)))
    return images * steps / run(steps)


def config(case: Case, folder: Path, *more: str, synthetic: int = 0) -> TrainConfig:
    """The config of a run, as the command line would compose it.

    Args:
        case: backbone and size.
        folder: folder of the benchmark.
        *more: overrides.
        synthetic: number of synthetic images; 0 for the JPEG files.
    """
    from hydra import compose, initialize_config_dir

    from eyegender.core.config_files import config_folder
    from eyegender.core.objectives import register_resolvers
    from eyegender.core.schema import parse

    register_resolvers()
    name, size = case
    data = ["data=folder", f"data.root={folder / 'eyes'}", "data.split.by=random"]
    data += ["data.split.test=0.05", "data.split.val=0.05"]
    data = ["data=synthetic", f"data.n={synthetic}"] if synthetic else data
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return parse(
            compose(
                "train",
                [
                    *data, f"model={name}", "model.weights=null", f"data.size={size}",
                    f"tracking.root={folder / 'mlruns'}", "trainer.compile=false",
                    "trainer.progress=none", "run_test=false", *more,
                ],
            )
        )  # fmt: skip
