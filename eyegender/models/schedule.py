"""Learning rates by step, and how a run that goes on gets those of its whole length."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

Groups = list[dict[str, Any]]


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


def build_scheduler(optimizer: Optimizer, schedule: str, warmup: float, steps: int) -> LRScheduler:
    """The rates of a run of so many steps; each group's own rate is its peak."""
    if schedule == "onecycle":
        # One step more: the schedule is stepped once after the last optimizer step, too. In runs of a few steps
        # both of its phases keep a length, or torch would divide by zero.
        total = max(steps + 1, 4)
        rise = min(max(warmup, 1.5 / total), 1 - 1.5 / total)
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=total, pct_start=rise)
    if schedule == "cosine":
        first = max(1, round(warmup * steps))
        return SequentialLR(
            optimizer,
            [
                LinearLR(optimizer, start_factor=1 / first, total_iters=first),
                CosineAnnealingLR(optimizer, T_max=max(1, steps - first)),
            ],
            milestones=[first],
        )
    return LinearLR(optimizer, start_factor=1.0, total_iters=1)


# What a schedule and the config leave in an optimizer's groups; the rest is of the machine, or of the model.
_SCHEDULED = {
    "lr", "betas", "weight_decay", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum",
}  # fmt: skip


def reschedule(
    checkpoint: dict[str, Any], groups: Groups, schedule: str, warmup: float, remaining: int, *, fused: bool
) -> None:
    """Let the checkpoint's optimizer and schedule stand where a run of its steps and the remaining ones would stand.

    A run that was planned to end here has come down to a rate at which nothing is learned any more. With more steps to
    go it has the rates of the longer run instead.
    """
    done = checkpoint["lr_schedulers"][0]["last_epoch"]
    optimizer = AdamW([{**group, "params": []} for group in groups])
    scheduler = build_scheduler(optimizer, schedule, warmup, done + remaining)
    for _ in range(done):
        optimizer.step()
        scheduler.step()
    checkpoint["lr_schedulers"][0] = scheduler.state_dict()
    for saved, wanted in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
        saved.update({name: wanted[name] for name in _SCHEDULED & wanted.keys()}, fused=fused)
