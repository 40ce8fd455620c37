"""Training ends when a loss or gradient is not finite. The check does not block the GPU at every step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(Exception):
    """A loss, a gradient or a weight is NaN or infinite.

    Args:
        what: name of the value.
        step: optimizer step at which it was computed.
        lr: learning rate of that step.
        index: positions of the batch's images in the data module's samples.
    """

    def __init__(self, what: str, step: int, lr: float, index: list[int]) -> None:
        super().__init__(what, step, lr, index)
        self.what, self.step, self.lr, self.index = what, step, lr, index


class _Pending(NamedTuple):
    finite: Tensor
    ready: torch.cuda.Event | None
    what: str
    step: int
    lr: float
    images: Tensor


class FiniteCheck:
    """Records values and raises if one of them is not finite: on a CPU at once, on a GPU at the next `flush`.

    A GPU may take another step before the value of the last one is known, so `flush` must come before anything that
    saves or evaluates the weights.
    """

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()

    def record(self, value: Tensor, what: str, step: int, lr: float, index: Tensor) -> None:
        """Check the scalar `value`; the other arguments are those of `NotFiniteError`.

        Raises:
            NotFiniteError: the value, or on a CPU an earlier one, is not finite.
        """
        finite, ready = torch.isfinite(value.detach()), None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        self._pending.append(_Pending(finite, ready, what, step, lr, index))
        if ready is None:
            self.flush()

    def flush(self, before: int | None = None) -> None:
        """Wait for the recorded values, or for those of the steps before step `before`.

        Raises:
            NotFiniteError: for the first value that is not finite.
        """
        while self._pending and (before is None or self._pending[0].step < before):
            pending = self._pending.popleft()
            if pending.ready is not None:
                pending.ready.synchronize()
            if not pending.finite:
                self._pending.clear()
                raise NotFiniteError(pending.what, pending.step, pending.lr, pending.images.tolist())
