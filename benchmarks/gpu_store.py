"""Activations on a GPU: how fast they are computed and stored, and the epochs that train a head on them."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch

from benchmarks.gpu_sizes import config, device, fresh_memory, rate, synchronized
from benchmarks.gpu_training import EnoughError, tracked
from eyegender.features.plan import stored_activations
from eyegender.features.prefix import FrozenPrefix
from eyegender.training.autotune import frozen_stages_dtype
from eyegender.training.build import build_data, build_model, prepare_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.gpu_sizes import Sizes

EPOCHS = 6
OVERRIDES = ("model.finetune_depth=0", "features=on", "features.views=4", "features.dtype=bfloat16")


@dataclass
class Epochs(pl.Callback):
    """When each epoch began; ends the run after `count`."""

    count: int
    starts: list[float] = field(default_factory=list)

    def on_train_epoch_start(self, *_: object) -> None:
        self.starts.append(synchronized())
        if len(self.starts) > self.count:
            raise EnoughError


def store(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """Stores the activations of a head-only run, then trains on them."""
    yield (
        "table", "Head-only training from stored activations",
        ("network and size", "computed in", "forward passes alone, images/s", "computed and stored, images/s",
         "images with their views", "seconds to store", "seconds per epoch"),
    )  # fmt: skip
    for case in sizes.cases:
        fresh_memory()
        cfg = config(case, folder, *OVERRIDES, "trainer.max_epochs=8")
        network = prepare_network(cfg, fresh=True)
        data = build_data(cfg)
        data.setup("fit")
        module = build_model(cfg, classes=data.samples.classes, weights=1.0, built=network).classifier
        module.network.use_channels_last()  # as a run does
        types: list[torch.dtype] = []

        def compute_dtype(passes: int) -> torch.dtype:
            types.append(frozen_stages_dtype(cfg, module.network, data.size, device(), passes))  # noqa: B023
            began.append(time.perf_counter())  # noqa: B023 - measuring the type is not part of storing
            return types[-1]  # noqa: B023

        began: list[float] = []
        source = stored_activations(cfg, module, data, device(), compute_dtype=compute_dtype, check=lambda: None)
        seconds = synchronized() - began[-1]
        if source is None:
            raise RuntimeError("nothing was stored")
        images = sum(split.store.images * split.store.views for split in source.splits.values())
        prefix = FrozenPrefix(
            module.network, 0, len(module.network.stages), pool=True, dtype=types[-1], device=device()
        )
        pixels = torch.randint(0, 256, (64, 3, case[1], case[1]), dtype=torch.uint8, device=device())
        alone = rate(lambda: prefix(pixels), 64, sizes)  # noqa: B023 - called before the next round
        epochs = Epochs(EPOCHS)
        tracked(case, sizes.batches[0], folder, epochs, *OVERRIDES)
        lengths = [b - a for a, b in pairwise(epochs.starts)]
        yield (
            "row",
            (f"{case[0]}@{case[1]}", str(types[-1]).removeprefix("torch."), f"{alone:.0f}", f"{images / seconds:.0f}",
             f"{images}", f"{seconds:.1f}", f"{statistics.median(lengths[1:]):.2f}"),
        )  # fmt: skip
    yield "note", "Storing includes reading and augmenting the images; an epoch includes validation and checkpoints."
