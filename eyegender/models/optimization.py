"""Optimizer and learning-rate scheduler as the config names them, also of a run that goes on for longer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR

from eyegender.core.errors import UserError

Groups = list[dict[str, Any]]

# Of an optimizer's groups, what belongs to the machine or the model and not to the config.
_OF_THE_MACHINE = {"params", "name", "fused", "foreach", "capturable", "differentiable"}
# Arguments by which torch's schedulers know how long they have; filled in where the config leaves them out.
_LENGTHS = ("total_steps", "T_max", "total_iters")


class Progress(NamedTuple):
    """How far the run of a checkpoint had come: finished epochs, batches of the one after them, optimizer steps."""

    epochs: int
    batches: int
    steps: int


START = Progress(0, 0, 0)


def progress_of(checkpoint: dict[str, Any]) -> Progress:
    """What Lightning's checkpoint says of its loops."""
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    begun = epoch["started"] > epoch["processed"] and not batch["is_last_batch"]
    return Progress(epoch["processed"], batch["current"]["processed"] if begun else 0, checkpoint["global_step"])


@dataclass(frozen=True)
class Optimization:
    """How weights are updated.

    Args:
        optimizer: a class of torch.optim, or of an allowed package.
        arguments: of the optimizer, without the learning rate: each parameter group has its own.
        scheduler: a class of torch.optim.lr_scheduler, stepped after every optimizer step; None for constant rates.
        scheduler_arguments: what tells the scheduler the run's length (`total_steps`, `T_max`, `total_iters`) and the
            peaks (`max_lr`) is filled in where it is left out.
        warmup: 0..1, the fraction of all steps over which the rates rise: `pct_start` of OneCycleLR, else linearly,
            before the scheduler.

    Example:
        >>> sgd = Optimization(torch.optim.SGD, {"momentum": 0.9})
        >>> optimizer = sgd.build_optimizer([{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1}])
        >>> optimizer.param_groups[0]["momentum"]
        0.9
    """

    optimizer: type[Optimizer] = AdamW
    arguments: dict[str, Any] = field(default_factory=lambda: {"weight_decay": 0.05})
    scheduler: type[LRScheduler] | None = OneCycleLR
    scheduler_arguments: dict[str, Any] = field(default_factory=dict)
    warmup: float = 0.25

    @property
    def weight_decay(self) -> float:
        """That of parameters which are decayed; 0 where the optimizer knows no weight decay."""
        default = inspect.signature(self.optimizer).parameters.get("weight_decay")
        return float(self.arguments.get("weight_decay", default.default if default else 0.0))

    def build_optimizer(self, groups: Groups, *, fused: bool = False) -> Optimizer:
        """Args:
        groups: each with its `lr`, and its `weight_decay` where that is not the optimizer's.
        fused: update all tensors in one call, where the optimizer can.
        """
        known = inspect.signature(self.optimizer).parameters
        more = {"fused": True} if fused and "fused" in known and "foreach" not in self.arguments else {}
        if "weight_decay" not in known:
            groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
        return self.optimizer(groups, **{**more, **self.arguments})

    def build_scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """The rates of a run of so many steps; each group's own rate is its peak."""
        if self.scheduler is None:
            return None
        if issubclass(self.scheduler, OneCycleLR):
            return self._one_cycle(optimizer, steps)
        first = max(1, round(self.warmup * steps)) if self.warmup else 0
        known = inspect.signature(self.scheduler).parameters
        length = {name: max(1, steps - first) for name in _LENGTHS if name in known}
        rise = [LinearLR(optimizer, start_factor=1 / first, total_iters=first)] if first else []
        scheduler = self.scheduler(optimizer, **{**length, **self.scheduler_arguments})
        return SequentialLR(optimizer, [*rise, scheduler], milestones=[first]) if rise else scheduler

    def _one_cycle(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        # One step more: the schedule is stepped once after the last optimizer step, too. In runs of a few steps
        # both of its phases keep a length, or torch would divide by zero.
        total = max(steps + 1, 4)
        rise = min(max(self.warmup, 1.5 / total), 1 - 1.5 / total)
        has_momentum = "betas" in optimizer.defaults or optimizer.defaults.get("momentum")
        filled = {
            "max_lr": [group["lr"] for group in optimizer.param_groups],
            "total_steps": total,
            "pct_start": rise,
            "cycle_momentum": bool(has_momentum),
        }
        assert self.scheduler is not None
        return self.scheduler(optimizer, **{**filled, **self.scheduler_arguments})

    def reschedule(self, checkpoint: dict[str, Any], groups: Groups, remaining: int, *, fused: bool) -> None:
        """Let the checkpoint's optimizer and scheduler stand where a run of its and the remaining steps would stand.

        A run that was planned to end here has come down to a rate at which nothing is learned any more. With more steps
        to go it has the rates of the longer run instead.
        """
        saved_schedulers = checkpoint["lr_schedulers"]
        optimizer = self.build_optimizer([{**group, "params": []} for group in groups])
        if saved_schedulers:
            done = saved_schedulers[0]["last_epoch"]
            scheduler = self.build_scheduler(optimizer, done + remaining)
            assert scheduler is not None
            for _ in range(done):
                optimizer.step()
                scheduler.step()
            saved_schedulers[0] = scheduler.state_dict()
        pairs = zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True)
        for saved, wanted in pairs:
            saved.update({name: value for name, value in wanted.items() if name not in _OF_THE_MACHINE})
            if "fused" in saved:
                saved["fused"] = fused

    def check(self) -> None:
        """Try both on two parameters, for three steps.

        Raises:
            UserError: they do not take these arguments, or cannot train a network like ours with them.
        """
        what = "optimizer"
        try:
            parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2, 1, 1), (2,))]
            optimizer = self.build_optimizer([{"params": [p], "lr": 0.01, "weight_decay": 0.0} for p in parameters])
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            what = "scheduler"
            scheduler = self.build_scheduler(optimizer, 3)
            for _ in range(3 if scheduler is not None else 0):
                optimizer.step()
                scheduler.step()  # type: ignore[union-attr]
        except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
            cls = self.optimizer if what == "optimizer" or self.scheduler is None else self.scheduler
            told = " ".join(str(error).split())[:160]
            raise UserError(f"{what}: {cls.__name__} cannot be used so ({told}); correct the keys of {what}") from error
