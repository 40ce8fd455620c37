"""Batches that do not fit the memory are computed as several micro-batches."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

T = TypeVar("T")

log = logging.getLogger("eyegender")

# Messages of torch's CPU allocator, of the C++ library below it and of oneDNN. GPUs have an exception class.
_OUT_OF_MEMORY = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation",
    "could not create a primitive",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the memory of the machine or of a GPU is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


class MicroBatches:
    """Finds the number of micro-batches per batch: starts at 1, doubles on every out-of-memory error, never shrinks.

    Args:
        network: its buffers (batch-norm statistics) are restored after a failed attempt.
        activity: what is done with a batch, for the warning: `training on` or `evaluating`.
    """

    def __init__(self, network: nn.Module, activity: str) -> None:
        self.network, self.activity, self.count = network, activity, 1

    def run(self, step: Callable[[int], T], images: int) -> T:
        """Call `step` with the number of micro-batches until it fits the memory.

        Args:
            step: computes one batch in the given number of micro-batches.
            images: size of the batch, the largest number of micro-batches.

        Raises:
            Exception: the error of the last attempt, if a micro-batch of one image does not fit either.
        """
        before = [buffer.clone() for buffer in self.network.buffers()]
        while True:
            try:
                return step(min(self.count, images))
            except Exception as error:
                if not is_out_of_memory(error) or self.count >= images:
                    raise
            # Outside the handler the exception is gone, and with it the frames that hold the tensors of the attempt.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            with torch.no_grad():
                for buffer, value in zip(self.network.buffers(), before, strict=True):
                    buffer.copy_(value)
            self.count *= 2
            log.warning(
                "out of memory while %s %d images at once; from now on %d at once, which changes nothing but the "
                "batch-norm statistics",
                self.activity, -(-images * 2 // self.count), -(-images // self.count),
            )  # fmt: skip
