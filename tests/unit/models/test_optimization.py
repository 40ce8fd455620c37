from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.models.optimization import Optimization, Progress, progress_of

SCHEDULES: dict[str, Optimization] = {
    "onecycle": Optimization(),
    "cosine": Optimization(scheduler=torch.optim.lr_scheduler.CosineAnnealingLR),
    "constant": Optimization(
        scheduler=torch.optim.lr_scheduler.ConstantLR,
        scheduler_arguments={"factor": 1.0, "total_iters": 0},
        warmup=0.0,
    ),
    "polynomial": Optimization(scheduler=torch.optim.lr_scheduler.PolynomialLR, warmup=0.5),
}


class Training:
    """An optimizer with two groups and its schedule, and what a checkpoint would keep of them."""

    def __init__(self, schedule: str, steps: int) -> None:
        self.parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        self.optimizer = SCHEDULES[schedule].build_optimizer(self.groups())
        scheduler = SCHEDULES[schedule].build_scheduler(self.optimizer, steps)
        assert scheduler is not None
        self.scheduler = scheduler

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
def test_a_resumed_run_of_another_length_has_the_rates_of_that_length(
    schedule: str, done: int, planned: int, now: int
) -> None:
    first, whole, resumed = Training(schedule, planned), Training(schedule, now), Training(schedule, now)
    first.take(done)
    checkpoint = first.checkpoint()
    SCHEDULES[schedule].reschedule(checkpoint, first.groups(), now - done, fused=False)
    resumed.restore(checkpoint)
    assert resumed.take(now - done) == whole.take(now)[done:]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_run_of_the_same_length_has_unchanged_rates(schedule: str) -> None:
    training = Training(schedule, 10)
    training.take(4)
    before = training.checkpoint()
    after = copy.deepcopy(before)
    SCHEDULES[schedule].reschedule(after, training.groups(), 6, fused=False)
    training.restore(after)
    assert training.take(6) == _went_on(schedule, before)


def _went_on(schedule: str, checkpoint: dict[str, Any]) -> list[tuple[float, ...]]:
    training = Training(schedule, 10)
    training.restore(checkpoint)
    return training.take(6)


def test_progress_is_that_of_finished_epochs_and_of_the_batches_after_them() -> None:
    def progress(started: int, processed: int, batches: int, last: bool) -> Progress:
        batch = {"current": {"processed": batches}, "is_last_batch": last}
        epoch = {"current": {"started": started, "processed": processed}}
        loops = {"fit_loop": {"epoch_progress": epoch, "epoch_loop.batch_progress": batch}}
        return progress_of({"loops": loops, "global_step": 7})

    assert progress(2, 2, 3, last=True) == Progress(2, 0, 7)
    assert progress(3, 2, 1, last=False) == Progress(2, 1, 7)
    assert progress(3, 3, 1, last=False) == Progress(3, 0, 7)  # max_steps has cut the third one short


def test_a_warm_up_rises_linearly_before_the_scheduler() -> None:
    rates = [rates[0] for rates in Training("cosine", 8).take(8)]
    assert rates[:2] == pytest.approx([5e-4, 7.5e-4])
    expected = [5e-4 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates[2:] == pytest.approx(expected)


def test_an_optimizer_without_weight_decay_gets_none() -> None:
    optimization = Optimization(torch.optim.Rprop, {}, None, {}, 0.0)
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = optimization.build_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}])
    assert optimization.weight_decay == 0
    assert "weight_decay" not in optimizer.param_groups[0]
    assert optimization.build_scheduler(optimizer, 3) is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_update_is_used_if_the_optimizer_has_one(fused: bool) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1}]
    assert bool(Optimization().build_optimizer(groups, fused=fused).defaults["fused"]) == fused
    assert "fused" not in Optimization(torch.optim.NAdam, {}).build_optimizer(groups, fused=fused).defaults


@pytest.mark.parametrize(
    ("optimization", "message"),
    [
        (Optimization(torch.optim.AdamW, {"betas": [2.0, 0.9]}), "optimizer: AdamW .*Invalid beta"),
        (Optimization(torch.optim.SGD, {"speed": 1.0}), "optimizer: SGD .*unexpected keyword argument 'speed'"),
        (Optimization(torch.optim.LBFGS, {}), "optimizer: LBFGS .*per-parameter options"),
        (Optimization(torch.optim.SparseAdam, {}), "optimizer: SparseAdam .*dense gradients"),
        (Optimization(torch.optim.Muon, {}), "optimizer: Muon .*2D"),
        (Optimization(scheduler=torch.optim.lr_scheduler.StepLR), "scheduler: StepLR .*step_size"),
        (
            Optimization(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau),
            "ReduceLROnPlateau .*additional kwargs",
        ),
        (Optimization(scheduler_arguments={"anneal_strategy": "up"}), "scheduler: OneCycleLR .*anneal_strategy"),
    ],
)
def test_an_optimization_that_cannot_train_is_refused(optimization: Optimization, message: str) -> None:
    with pytest.raises(UserError, match=message):
        optimization.check()


@pytest.mark.parametrize("name", ["Adam", "Adamax", "Adadelta", "Adafactor", "Adagrad", "ASGD", "NAdam", "RAdam",
                                  "RMSprop", "Rprop", "SGD"])  # fmt: skip
def test_torchs_optimizers_can_train(name: str) -> None:
    Optimization(getattr(torch.optim, name), {}).check()
