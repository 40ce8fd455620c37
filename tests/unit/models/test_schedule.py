from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from eyegender.models.schedule import Progress, build_scheduler, progress_of, reschedule

SCHEDULES = ["onecycle", "cosine", "constant"]


class Training:
    """An optimizer with two groups and its schedule, and what a checkpoint would keep of them."""

    def __init__(self, schedule: str, steps: int) -> None:
        self.parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        self.optimizer = torch.optim.AdamW(self.groups())
        self.scheduler = build_scheduler(self.optimizer, schedule, 0.25, steps)

    def groups(self) -> list[dict[str, Any]]:
        rates = (1e-3, 1e-2)
        return [{"params": [p], "lr": lr, "weight_decay": 0.1} for p, lr in zip(self.parameters, rates, strict=True)]

    def take(self, steps: int) -> list[tuple[float, ...]]:
        """The rates and momenta of so many steps."""
        taken = []
        for _ in range(steps):
            taken.append(tuple(v for group in self.optimizer.param_groups for v in (group["lr"], group["betas"][0])))
            self.optimizer.step()
            self.scheduler.step()
        return taken

    def checkpoint(self) -> dict[str, Any]:
        states = {"optimizer_states": [self.optimizer.state_dict()], "lr_schedulers": [self.scheduler.state_dict()]}
        return copy.deepcopy(states)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        self.scheduler.load_state_dict(checkpoint["lr_schedulers"][0])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("done", "planned", "now"), [(8, 8, 20), (5, 8, 20), (5, 20, 8), (8, 8, 8), (1, 2, 3)])
def test_a_run_of_another_length_goes_on_at_the_rates_of_that_length(
    schedule: str, done: int, planned: int, now: int
) -> None:
    first, whole, resumed = Training(schedule, planned), Training(schedule, now), Training(schedule, now)
    first.take(done)
    checkpoint = first.checkpoint()
    reschedule(checkpoint, first.groups(), schedule, 0.25, now - done, fused=False)
    resumed.restore(checkpoint)
    assert resumed.take(now - done) == whole.take(now)[done:]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_of_the_same_length_goes_on_as_if_nothing_had_happened(schedule: str) -> None:
    training = Training(schedule, 10)
    training.take(4)
    before = training.checkpoint()
    after = copy.deepcopy(before)
    reschedule(after, training.groups(), schedule, 0.25, 6, fused=False)
    training.restore(after)
    assert training.take(6) == _went_on(schedule, before)


def _went_on(schedule: str, checkpoint: dict[str, Any]) -> list[tuple[float, ...]]:
    training = Training(schedule, 10)
    training.restore(checkpoint)
    return training.take(6)


def test_progress_is_that_of_finished_epochs_and_of_the_batches_after_them() -> None:
    def told(started: int, processed: int, batches: int, last: bool) -> Progress:
        batch = {"current": {"processed": batches}, "is_last_batch": last}
        epoch = {"current": {"started": started, "processed": processed}}
        loops = {"fit_loop": {"epoch_progress": epoch, "epoch_loop.batch_progress": batch}}
        return progress_of({"loops": loops, "global_step": 7})

    assert told(2, 2, 3, last=True) == Progress(2, 0, 7)
    assert told(3, 2, 1, last=False) == Progress(2, 1, 7)
    assert told(3, 3, 1, last=False) == Progress(3, 0, 7)  # max_steps has cut the third one short
