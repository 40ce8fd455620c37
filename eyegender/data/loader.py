"""Loads whole batches from the pixel store, without worker processes or a Python object per image."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eyegender.data.pixel_cache import PixelStore

_PREFETCH = 2
_MEMORY_SHARE = 0.4  # of the free memory of a device that preloaded images may use
_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A batch of B images.

    Args:
        pixels: uint8 of shape (B, C, H, W), or with `is_features` outputs of frozen stages, (B, C', h, w) or (B, C').
        labels: int64 of shape (B,).
        indices: int64 of shape (B,), positions in the data module's samples.
        is_features: `pixels` are stored outputs of the frozen stages, augmentation included.
        mirrored: with `is_features`, the features of the mirror images, if they are needed.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    is_features: bool = False
    mirrored: torch.Tensor | None = None  # the last field: Lightning drops None when it moves a batch


class BatchLoader:
    """Iterates over samples in batches of nearly equal size, at most `batch_size`.

    The order is a function of (seed, epoch). Lightning sets the epoch through `sampler`, and saves and restores the
    position within it through `state_dict`; other loops call `set_epoch` before each epoch.

    With several ranks, each rank has the same number of batches. In training, all ranks get the same number of images:
    the order is extended from its start, so fewer than `world_size` images occur twice. In evaluation, each image
    occurs exactly once.

    In training on a GPU, all batches have the same size, because a GPU prepares anew, for up to some seconds, for each
    size that it meets. An epoch leaves out the few images that remain, fewer than it has batches; other ones each time.

    Args:
        rows: row of each sample in the store, int64 of shape (N,).
        labels: label of each sample, shape (N,).
        index: value of `Batch.indices` for each sample, shape (N,).
        batch_size: largest number of images per batch and rank.
        shuffle: a new order in each epoch, and the same number of images on each rank.
        seed: seed of the order.
        rank: rank of this process, 0 to world_size - 1.
        world_size: number of processes that share the samples.
        gpu: the GPU that the batches are for; they are page-locked, so it copies them while it computes.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        labels: NDArray[np.uint8 | np.uint16],
        index: NDArray[np.int64],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        gpu: torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        if not 0 <= rank < world_size <= len(rows):
            raise ValueError(f"rank < world_size <= images must hold, got {rank}, {world_size} and {len(rows)}")
        self.rows = rows
        self.labels = labels.astype(np.int64)
        self.index = index.astype(np.int64)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.gpu = gpu
        self.epoch = 0
        self._yielded = 0
        self._resume_at: tuple[int, int] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        per_rank = -(-len(self.rows) // self.world_size)
        batches = -(-per_rank // self.batch_size)
        # In evaluation, ranks may differ by one image; no rank may get an empty batch.
        return batches if self.shuffle else min(batches, len(self.rows) // self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        # A generator reads the epoch when the first batch is requested: Lightning creates the iterator first and sets
        # the epoch afterwards.
        start = 0
        if self._resume_at is not None:
            epoch, position = self._resume_at
            self._resume_at = None
            if epoch == self.epoch:
                start = position
        batches = self._batches()[start:]
        self._yielded = start
        if not self._prefetches:
            for positions in batches:
                self._yielded += 1
                yield self._load(positions)
            return
        waiting: deque[Future[Batch]] = deque()
        for positions in batches[:_PREFETCH]:
            waiting.append(self._start(positions))
        for following in range(_PREFETCH, _PREFETCH + len(batches)):
            batch = waiting.popleft().result()
            if following < len(batches):
                waiting.append(self._start(batches[following]))
            self._yielded += 1
            yield batch

    @property
    def _prefetches(self) -> bool:
        """Whether another thread loads the next batches meanwhile."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}

    @property
    def sampler(self) -> BatchLoader:
        """Lightning calls `set_epoch` on this object."""
        return self

    batch_sampler = None  # Lightning reads it if there is a `sampler`

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self._yielded = 0
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batches": self._yielded, "of": len(self), "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that were yielded, if the batches are still the same."""
        self.epoch = state["epoch"]
        if state["of"] == len(self) and state["seed"] == self.seed:
            self._resume_at = state["epoch"], state["batches"]
            self._yielded = state["batches"]
        elif 0 < state["batches"] < state["of"]:
            _log.warning("the batches differ from those of the interrupted run; the epoch starts again")

    def _batches(self) -> list[NDArray[np.int64]]:
        """Positions of each batch of this rank in this epoch."""
        order = np.arange(len(self.rows))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
            per_rank = -(-len(order) // self.world_size)
            order = np.resize(order, per_rank * self.world_size)
        own = order[self.rank :: self.world_size].astype(np.int64)
        if self.shuffle and self.gpu is not None:
            own = own[: len(own) // len(self) * len(self)]
        return np.array_split(own, len(self))

    def _start(self, positions: NDArray[np.int64]) -> Future[Batch]:
        if self._pool is None:
            begin = None if self.gpu is None else partial(torch.cuda.set_device, self.gpu)
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=begin)
        return self._pool.submit(self._load, positions)

    def _load(self, positions: NDArray[np.int64]) -> Batch:
        """The batch of the samples at `positions`; called ahead of time in another thread, if `_prefetches`."""
        raise NotImplementedError

    def _ready(self, tensor: torch.Tensor) -> torch.Tensor:
        """A CPU tensor, page-locked if the batches are for a GPU."""
        return tensor if self.gpu is None else tensor.pin_memory()


class ImageLoader(BatchLoader):
    """Batches of images.

    From the second epoch on, the images stay in the memory of the GPU if there is room for them.

    Args:
        store: the pixels.
        *arguments: arguments of `BatchLoader`, as `options`.
    """

    def __init__(self, store: PixelStore, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.store = store
        self._epochs_started = 0
        self._preloaded: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None  # pixels, labels, index

    def __iter__(self) -> Iterator[Batch]:
        self._epochs_started += 1
        if self.gpu is not None and self._epochs_started == 2:
            self.preload(self.gpu)
        return super().__iter__()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_preloaded": None}

    def preload(self, device: torch.device | str) -> bool:
        """Copy all images to the device if they take less than 40% of its free memory; returns whether they do."""
        device = torch.device(device)
        needed = len(self.rows) * int(np.prod(self.store.shape[1:]))
        if needed > _MEMORY_SHARE * free_bytes(device):
            return False
        pixels = torch.empty((len(self.rows), *self.store.shape[1:]), dtype=torch.uint8, device=device)
        for start in range(0, len(self.rows), 1024):
            read = self.store.read(self.rows[start : start + 1024])
            pixels[start : start + 1024] = torch.from_numpy(read).to(device)
        self._preloaded = pixels, torch.from_numpy(self.labels).to(device), torch.from_numpy(self.index).to(device)
        return True

    def _load(self, positions: NDArray[np.int64]) -> Batch:
        where = torch.from_numpy(positions)
        if self._preloaded is not None:
            pixels, labels, index = self._preloaded
            on_device = self._ready(where).to(pixels.device, non_blocking=True)
            return Batch(pixels[on_device], labels[on_device], index[on_device])
        pixels = self._ready(torch.from_numpy(self.store.read(self.rows[positions])))
        labels, index = torch.from_numpy(self.labels), torch.from_numpy(self.index)
        return Batch(pixels, self._ready(labels[where]), self._ready(index[where]))


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; a GPU copies page-locked memory, so that the host need not wait for its queue."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def free_bytes(device: torch.device) -> float:
    """Free memory of the device; infinite for the CPU, where images are read from a file anyway."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
