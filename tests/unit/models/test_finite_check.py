from __future__ import annotations

import pytest
import torch

from eyegender.models import finite_check
from eyegender.models.finite_check import FiniteCheck, NotFiniteError

INDEX = torch.tensor([7, 9])


def test_cpu_raises_at_once() -> None:
    check = FiniteCheck()
    check.record(torch.tensor(1.0), "loss", 0, 0.1, INDEX)
    with pytest.raises(NotFiniteError) as raised:
        check.record(torch.tensor(torch.inf), "gradient", 3, 0.1, INDEX)
    error = raised.value
    assert (error.what, error.step, error.lr, error.index) == ("gradient", 3, 0.1, [7, 9])
    check.flush()  # the error is raised once


@pytest.mark.gpu
def test_gpu_raises_when_flushed() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    for flush_all in (False, True):
        check = FiniteCheck()
        check.record(torch.tensor(torch.nan, device="cuda"), "loss", 4, 0.1, INDEX.cuda())
        check.record(torch.tensor(torch.nan, device="cuda"), "loss", 5, 0.1, INDEX.cuda())
        check.flush(before=4)
        with pytest.raises(NotFiniteError) as raised:
            check.flush(before=None if flush_all else 5)
        assert (raised.value.step, raised.value.index) == (4, [7, 9])


def test_flush_before_a_step_leaves_that_step_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    check = FiniteCheck()
    for step, value in ((4, True), (5, False)):
        check._pending.append(finite_check._Pending(torch.tensor(value), None, "loss", step, 0.1, INDEX))
    check.flush(before=5)
    with pytest.raises(NotFiniteError):
        check.flush()
