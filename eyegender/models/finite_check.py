"""Losses and gradients that are not finite end a training; a GPU's queue is not emptied at each step to know it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(Exception):
    """Loss or gradients are NaN or infinite; training on would only spoil the weights."""

    def __init__(self, what: str, step: int, lr: float, index: list[int]) -> None:
        super().__init__(what, step, lr, index)
        self.what, self.step, self.lr, self.index = what, step, lr, index


class _Asked(NamedTuple):
    finite: Tensor
    known: torch.cuda.Event | None
    what: str
    step: int
    lr: float
    pictures: Tensor


class FiniteCheck:
    """Asks whether values are finite; the answers for a CPU's are there at once, for a GPU's they are waited for later.

    Between a question and its answer a GPU may take a step with such values. So `settle` comes before whatever keeps or
    judges the weights.
    """

    def __init__(self) -> None:
        self._asked: deque[_Asked] = deque()

    def ask(self, value: Tensor, what: str, step: int, lr: float, index: Tensor) -> None:
        """Whether the scalar `value` is finite; the rest is what `NotFiniteError` will say.

        Raises:
            NotFiniteError: it is not, and that is known by now.
        """
        finite, known = torch.isfinite(value.detach()), None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            known = torch.cuda.Event()  # type: ignore[no-untyped-call]
            known.record()
        self._asked.append(_Asked(finite, known, what, step, lr, index))
        if known is None:
            self.settle()

    def settle(self, before: int | None = None) -> None:
        """Wait for the answers to what was asked, or asked in steps `before` this one.

        Raises:
            NotFiniteError: of the first that is not finite.
        """
        while self._asked and (before is None or self._asked[0].step < before):
            asked = self._asked.popleft()
            if asked.known is not None:
                asked.known.synchronize()
            if not asked.finite:
                self._asked.clear()
                raise NotFiniteError(asked.what, asked.step, asked.lr, asked.pictures.tolist())
