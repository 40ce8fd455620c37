"""Optimizer and learning-rate scheduler from the config, also for a resumed run that becomes longer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR

from eyegender.core.errors import UserError

Groups = list[dict[str, Any]]

# Keys of parameter groups that depend on the machine or the model and not on the config.
_NOT_FROM_CONFIG = {"params", "name", "fused", "foreach", "capturable", "differentiable"}
# Arguments that give torch's schedulers the number of steps; filled in if the config omits them.
_LENGTHS = ("total_steps", "T_max", "total_iters")


class Progress(NamedTuple):
    """Position of a run: finished epochs, batches of the epoch after them, and optimizer steps."""

    epochs: int
    batches: int
    steps: int


START = Progress(0, 0, 0)


def progress_of(checkpoint: dict[str, Any]) -> Progress:
    """The position that Lightning stored in the checkpoint."""
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    within_epoch = epoch["started"] > epoch["processed"] and not batch["is_last_batch"]
    return Progress(epoch["processed"], batch["current"]["processed"] if within_epoch else 0, checkpoint["global_step"])


@dataclass(frozen=True)
class Optimization:
    """Classes and arguments of optimizer and scheduler.

    Args:
        optimizer: a class of torch.optim or of an allowed package.
        arguments: arguments of the optimizer, except for the learning rate, which each parameter group sets.
        scheduler: a class of torch.optim.lr_scheduler, stepped after every optimizer step; None for constant rates.
        scheduler_arguments: arguments of the scheduler. The length of the run (`total_steps`, `T_max`, `total_iters`)
            and the peak rates (`max_lr`) are filled in if they are missing.
        warmup: fraction of all steps over which the rates rise, 0..1: `pct_start` of OneCycleLR, a linear rise before
            any other scheduler.

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
        """Weight decay of the groups that have one; 0 if the optimizer has no such argument."""
        default = inspect.signature(self.optimizer).parameters.get("weight_decay")
        return float(self.arguments.get("weight_decay", default.default if default else 0.0))

    def build_optimizer(self, groups: Groups, *, fused: bool = False) -> Optimizer:
        """The optimizer of some parameter groups.

        Args:
            groups: parameter groups, each with its `lr`, and with `weight_decay` if it differs from the optimizer's.
            fused: update all tensors in one call, if the optimizer supports it.
        """
        known = inspect.signature(self.optimizer).parameters
        extra = {"fused": True} if fused and "fused" in known and "foreach" not in self.arguments else {}
        if "weight_decay" not in known:
            groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
        return self.optimizer(groups, **{**extra, **self.arguments})

    def build_scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """The scheduler of a run of `steps` optimizer steps; the learning rate of each group is its peak."""
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
        # One extra step, because the scheduler is also stepped after the last optimizer step. In runs of a few steps
        # both phases keep a minimum length, or torch would divide by zero.
        total = max(steps + 1, 4)
        rise = min(max(self.warmup, 1.5 / total), 1 - 1.5 / total)
        has_momentum = "betas" in optimizer.defaults or optimizer.defaults.get("momentum")
        defaults = {
            "max_lr": [group["lr"] for group in optimizer.param_groups],
            "total_steps": total,
            "pct_start": rise,
            "cycle_momentum": bool(has_momentum),
        }
        assert self.scheduler is not None
        return self.scheduler(optimizer, **{**defaults, **self.scheduler_arguments})

    def reschedule(self, checkpoint: dict[str, Any], groups: Groups, remaining: int, *, fused: bool) -> None:
        """Change the learning rates in a checkpoint to those of a run with `remaining` more steps.

        A run that was planned to end at the checkpoint has reached a rate near zero. If it becomes longer, it continues
        with the rates that the longer run would have had.
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
            saved.update({name: value for name, value in wanted.items() if name not in _NOT_FROM_CONFIG})
            if "fused" in saved:
                saved["fused"] = fused

    def check(self) -> None:
        """Try optimizer and scheduler on two parameters for three steps.

        Raises:
            UserError: a class rejects its arguments or cannot be used with this kind of network.
        """
        failing = "optimizer"
        try:
            parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2, 1, 1), (2,))]
            optimizer = self.build_optimizer([{"params": [p], "lr": 0.01, "weight_decay": 0.0} for p in parameters])
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            failing = "scheduler"
            scheduler = self.build_scheduler(optimizer, 3)
            for _ in range(3 if scheduler is not None else 0):
                optimizer.step()
                scheduler.step()  # type: ignore[union-attr]
        except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
            cls = self.optimizer if failing == "optimizer" or self.scheduler is None else self.scheduler
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{failing}: {cls.__name__} rejects its arguments ({reason}); correct the keys of {failing}"
            ) from error
