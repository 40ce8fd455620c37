"""Steps that do not fit the memory: how they show, and the same step in parts that fit."""

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

# Of torch's CPU allocator, of the C++ library below it and of oneDNN; on GPUs there is a class for it.
_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation",
    "could not create a primitive",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for and refused, be it the machine's or a GPU's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


class Parts:
    """Into how many parts a batch is divided so that one fits the memory: doubled until it does, and kept.

    Args:
        network: whose batch-norm statistics a failed attempt must not leave half updated.
        what: is done with the batch, for the line that says so.
    """

    def __init__(self, network: nn.Module, what: str) -> None:
        self.network, self.what, self.number = network, what, 1

    def attempt(self, work: Callable[[int], T], pictures: int) -> T:
        """`work` with the number of parts, again with twice as many while it runs out of memory.

        Raises:
            Exception: of the last attempt, when a part of one picture does not fit either.
        """
        before = [buffer.clone() for buffer in self.network.buffers()]
        while True:
            try:
                return work(min(self.number, pictures))
            except Exception as error:
                if not is_out_of_memory(error) or self.number >= pictures:
                    raise
            # Out here the error is gone, and with it the frames that hold the failed attempt's tensors.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            with torch.no_grad():
                for buffer, value in zip(self.network.buffers(), before, strict=True):
                    buffer.copy_(value)
            self.number *= 2
            log.warning(
                "out of memory while %s %d pictures at once; from here on %d at once, with the same result per batch "
                "but for batch-norm statistics",
                self.what, -(-pictures * 2 // self.number), -(-pictures // self.number),
            )  # fmt: skip
