from __future__ import annotations

import pytest
import torch

from eyegender.models import finite_check
from eyegender.models.finite_check import FiniteCheck, NotFiniteError

INDEX = torch.tensor([7, 9])


def test_on_a_cpu_the_answer_is_there_at_once() -> None:
    check = FiniteCheck()
    check.ask(torch.tensor(1.0), "loss", 0, 0.1, INDEX)
    with pytest.raises(NotFiniteError) as told:
        check.ask(torch.tensor(torch.inf), "gradient", 3, 0.1, INDEX)
    error = told.value
    assert (error.what, error.step, error.lr, error.index) == ("gradient", 3, 0.1, [7, 9])
    check.settle()  # told once


@pytest.mark.gpu
def test_on_a_gpu_the_answer_is_waited_for_two_steps_later_or_before_a_checkpoint() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    for settle_all in (False, True):
        check = FiniteCheck()
        check.ask(torch.tensor(torch.nan, device="cuda"), "loss", 4, 0.1, INDEX.cuda())
        check.ask(torch.tensor(torch.nan, device="cuda"), "loss", 5, 0.1, INDEX.cuda())
        check.settle(before=4)
        with pytest.raises(NotFiniteError) as told:
            check.settle(before=None if settle_all else 5)
        assert (told.value.step, told.value.index) == (4, [7, 9])


def test_what_was_asked_in_the_last_step_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    check = FiniteCheck()
    for step, value in ((4, True), (5, False)):
        check._asked.append(finite_check._Asked(torch.tensor(value), None, "loss", step, 0.1, INDEX))
    check.settle(before=5)
    with pytest.raises(NotFiniteError):
        check.settle()
