"""Seconds per image of each stage of a network, as it is computed for the activation store and in a run."""

from __future__ import annotations

import copy
import tempfile
import time
import zlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch

from eyegender.core.cache import cache_folder
from eyegender.features.build import as_bits
from eyegender.features.prefix import FrozenPrefix
from eyegender.features.store import DTYPES
from eyegender.training.measurements import cached_measurement, clock, machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from eyegender.models.augment import Augment
    from eyegender.models.network import Network

_VERSION = 2
# Images of the first measurement; one with more of them follows if the sweep is long enough for it, because a large
# batch takes less time per image.
_FEW = 8
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 5
_PER_STAGE = ("frozen", "forward", "training")
_SINGLE = ("head", "image", "update", "read", "write", "measured")
_BYTES = 2**22  # written and read to measure the store


@dataclass(frozen=True)
class StageSeconds:
    """What each part of a run takes, in seconds per image unless it says something else.

    Args:
        frozen: each stage in the form in which activations are computed for the store.
        forward: each stage without gradients, as in a run.
        training: forward and backward pass of each stage.
        head: forward and backward pass of the head.
        image: normalising and augmenting an image in training.
        update: seconds of an optimizer step per trained parameter.
        read: seconds per stored byte that is read.
        write: seconds per stored byte that is converted, summed up and written.
        measured: seconds that the measurement took.
    """

    frozen: tuple[float, ...]
    forward: tuple[float, ...]
    training: tuple[float, ...]
    head: float
    image: float
    update: float
    read: float
    write: float
    measured: float


@dataclass(frozen=True)
class StageTiming:
    """Measures the stages of a network, whose own depth does not matter.

    Args:
        network: the network; it is copied, not changed.
        name: name of the backbone.
        size: side of the images in pixels.
        batch: images per training step.
        device: device to compute on.
        store_dtype: type in which activations are computed for the store.
        stored_as: type in which they are stored.
        precision: bfloat16 or float32, the type in which a run computes.
        augment: augmentation of training images, or None.
    """

    network: Network
    name: str
    size: int
    batch: int
    device: torch.device
    store_dtype: torch.dtype
    stored_as: str
    precision: str
    augment: Augment | None

    def measure(self, seconds: Callable[[StageSeconds], float], share: float = 0.02) -> StageSeconds:
        """The measurement, from the cache if this machine has made it before.

        Args:
            seconds: what a sweep takes, given a measurement; a longer sweep is measured more carefully.
            share: largest share of those seconds that the measurement may take, 0..1; a short one is always made first.
        """
        found = self._cached(min(_FEW, self.batch), 2)
        allowed = share * seconds(found) / max(found.measured / (2 * min(_FEW, self.batch)), 1e-9)  # images, all rounds
        images = self.batch
        while images * (_LEAST_ROUNDS + 1) > allowed and images > _FEW:
            images //= 2
        if images <= _FEW:
            return found
        return self._cached(images, min(int(allowed / images) - 1, _MOST_ROUNDS))

    def _cached(self, images: int, rounds: int) -> StageSeconds:
        # The number of rounds is no part of the name: a measurement that was made once is good enough for every sweep.
        what = (
            f"stages {_VERSION} of {self.name}, head {type(self.network.head).__name__}, {self.size} pixels, {images} "
            f"images, {self.device.type}, {self.precision}, stored from {self.store_dtype} as {self.stored_as}, "
            f"{self.augment}; {machine()}; torch {torch.__version__}"
        )
        found, _ = cached_measurement(
            what, lambda found: len(found["frozen"]) == len(self.network.stages), lambda: self._measured(images, rounds)
        )
        stages = {part: tuple(map(float, found[part])) for part in _PER_STAGE}
        return StageSeconds(**stages, **{part: float(found[part]) for part in _SINGLE})  # type: ignore[arg-type]

    def _measured(self, images: int, rounds: int) -> dict[str, Any]:
        began = _Moment.now()
        with torch.random.fork_rng():
            parts = _Parts(self, images)
            if images > _FEW:
                parts.run()  # to warm up; the short measurement has no time for it
            runs = [parts.run() for _ in range(rounds)]
        del parts
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # for the trials, which may run in other processes
        best = {part: [min(values) for values in zip(*(run[part] for run in runs), strict=True)] for part in runs[0]}
        return {
            part: values if part in _PER_STAGE else values[0]
            for part, values in {**best, "measured": [began.seconds_until(_Moment.now())]}.items()
        }


class _Moment(NamedTuple):
    """A moment by two clocks: on a CPU the processor's, which other programs do not disturb, and the wall clock.

    The processor's counts every thread, those that wait included, and the wall clock counts what other programs do in
    between. So the smaller difference is the better estimate of the seconds on a machine that does nothing else.
    """

    processor: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        return cls(clock(), time.perf_counter())

    def seconds_until(self, later: _Moment) -> float:
        return min(later.processor - self.processor, later.wall - self.wall)


class _Parts:
    """The parts that are measured, on random images."""

    def __init__(self, timing: StageTiming, images: int) -> None:
        self.timing, self.images = timing, images
        self.network = copy.deepcopy(timing.network).to(timing.device).train()
        self.network.stages.requires_grad_(requires_grad=True)
        self.network.use_channels_last()
        frozen = FrozenPrefix(
            timing.network, 0, len(timing.network.stages), dtype=timing.store_dtype, device=timing.device
        )
        self.frozen = frozen
        self.pixels = torch.randint(0, 256, (images, 1, timing.size, timing.size), dtype=torch.uint8)
        self.parameters = list(self.network.stages.parameters())
        fused = timing.device.type in {"cpu", "cuda"}
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=fused)

    def run(self) -> dict[str, list[float]]:
        """Seconds of each part, per image, byte or parameter."""
        with torch.autocast(self.timing.device.type, torch.bfloat16, enabled=self.timing.precision == "bfloat16"):
            forward, (training, head) = self._forward(), self._training()
        image = self._timed(self._image)
        store = self._frozen()
        self.optimizer.step()  # its state is allocated in the first step
        update = self._timed(self.optimizer.step) / sum(p.numel() for p in self.parameters)
        self.optimizer.zero_grad()
        read, write = self._store()
        per_image = {"forward": forward, "training": training, "frozen": store, "head": [head], "image": [image]}
        found = {part: [seconds / self.images for seconds in taken] for part, taken in per_image.items()}
        return {**found, "update": [update], "read": [read], "write": [write]}

    @staticmethod
    def _timed(run: Callable[[], object]) -> float:
        began = _Moment.now()
        run()
        return began.seconds_until(_Moment.now())

    def _image(self) -> Tensor:
        pixels: Tensor = self.pixels.to(self.timing.device)
        if self.timing.augment is not None:
            pixels = self.timing.augment(pixels, torch.default_generator)
        return self.network.normalise(pixels).contiguous(memory_format=torch.channels_last)

    def _forward(self) -> list[float]:
        x = self._image()
        taken = []
        with torch.no_grad():
            for stage in self.network.stages.eval():
                outputs: list[Tensor] = []
                taken.append(self._timed(partial(_append, outputs, stage, x)))
                x = outputs[0]
        self.network.stages.train()
        return taken

    def _training(self) -> tuple[list[float], float]:
        """Seconds of each stage and of the head in one pass through the whole network, forward and back."""
        reached: list[_Moment] = []

        def note(_gradient: Tensor) -> None:
            reached.append(_Moment.now())

        self.optimizer.zero_grad()
        x = self._image()
        marks = [_Moment.now()]
        for stage in self.network.stages:
            x = stage(x)
            x.register_hook(note)
            marks.append(_Moment.now())
        loss = self.network.head(x).float().sum()
        marks.append(_Moment.now())
        loss.backward()
        # The gradient reaches the output of the last stage first.
        back = [earlier.seconds_until(later) for earlier, later in pairwise([marks[-1], *reached, _Moment.now()])]
        forward = [earlier.seconds_until(later) for earlier, later in pairwise(marks)]
        both = [sum(pair) for pair in zip(forward, reversed(back), strict=True)]
        return both[:-1], both[-1]

    def _frozen(self) -> list[float]:
        x = self._image().to(self.frozen.dtype)
        taken = []
        with torch.inference_mode():
            for stage in self.frozen.stages:
                outputs: list[Tensor] = []
                taken.append(self._timed(partial(_append, outputs, stage, x)))
                x = outputs[0]
        return taken

    def _store(self) -> tuple[float, float]:
        """Seconds per byte to read rows of a stored array, and to convert, sum up and write them."""
        kind = np.dtype(DTYPES[self.timing.stored_as][1])
        features = torch.zeros(64, _BYTES // 64 // kind.itemsize, device=self.timing.device)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            path = Path(folder) / "rows"

            def write() -> None:
                bits = as_bits(features, self.timing.stored_as)
                for row in bits:
                    zlib.crc32(row.data)
                path.write_bytes(bits.tobytes())

            written = self._timed(write)
            rows = np.memmap(path, dtype=kind, mode="r", shape=tuple(features.shape))
            order = np.random.default_rng(0).permutation(len(rows))
            dtype = DTYPES[self.timing.stored_as][0]
            read = self._timed(lambda: torch.from_numpy(rows[order]).view(dtype).to(self.timing.device).float())
            nbytes = rows.nbytes
        return read / nbytes, written / nbytes


def _append(outputs: list[Tensor], module: nn.Module, inputs: Tensor) -> None:
    outputs.append(module(inputs))
