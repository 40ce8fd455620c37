"""Tells the tracking store and the console about every finished epoch, and keeps the curves for the figures."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from eyegender.models.classifier import Classifier
    from eyegender.tracking.tracker import Tracker

log = logging.getLogger("eyegender")

History = list[dict[str, float]]


class Epochs(pl.Callback):
    """One row of metrics per finished epoch, with `epoch` counted from 1; its state travels in the checkpoint.

    An epoch ends in this order: its row is made, its trial hears of it, `best.ckpt` and `last.ckpt` are written. Only
    then does the tracking store hear of it, and only then may a pruner or a signal end the run: where the next epoch
    would begin (`on_train_epoch_start`, which does not come after the last one). So whatever interrupts a run, its
    record, its checkpoints and what it goes on with agree.
    """

    def __init__(self, tracker: Tracker | None, max_steps: int = -1) -> None:
        self.tracker, self.max_steps = tracker, max_steps
        self.history: History = []
        self.origin: Callable[[], dict[str, Any]] = dict
        self._recorded = 0
        self._began = 0.0
        self._spent = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: Any) -> None:
        # Of an epoch that is still to be trained the row would stand there twice.
        self.history = [row for row in self.history if row["epoch"] <= trainer.current_epoch]
        self.record()
        # What goes on in the middle of an epoch does not start it again.
        self._began = time.monotonic() - self._spent

    def on_train_epoch_start(self, *_: Any) -> None:
        self._began = time.monotonic()
        self.record()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Not Lightning's max_steps, which neither validates where the last step falls into the middle of an epoch nor
        # goes on behind an epoch that is over.
        if 0 < self.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        epoch = trainer.current_epoch + 1
        row = {"epoch": float(epoch), "lr": module.current_lr(), "epoch_seconds": time.monotonic() - self._began}
        row |= module.epoch_values
        self.history.append(row)
        if trainer.is_global_zero:
            log.info(
                "epoch %*d/%d  train loss %.4f accuracy %5.2f%%   val loss %.4f accuracy %5.2f%%   %.1f s",
                len(str(trainer.max_epochs)),
                epoch,
                trainer.max_epochs,
                row["train/loss"],
                100 * row["train/accuracy"],
                row["val/loss"],
                100 * row["val/accuracy"],
                row["epoch_seconds"],
            )

    def record(self) -> None:
        """Tell the tracking store the rows that it was not told, after a restart all of them.

        It drops what it holds, and may have lost the run.
        """
        if self.tracker is None:
            return
        for row in self.history[self._recorded :]:
            values = {name: value for name, value in row.items() if name != "epoch"}
            self.tracker.metrics(values, step=int(row["epoch"]))
        self._recorded = len(self.history)

    def on_save_checkpoint(self, _trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint |= self.origin()

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "epoch_seconds": time.monotonic() - self._began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = list(state["history"])
        self._spent = float(state.get("epoch_seconds", 0.0))


def row_of(history: History, epoch: int) -> dict[str, float]:
    """The row of the epoch, counted from 1."""
    return next(row for row in history if row["epoch"] == epoch)


def best_row(history: History, monitor: str, mode: str) -> dict[str, float]:
    """The first epoch with the best value of `monitor`; NaN is never the best, unless there is nothing else."""
    rows = [row for row in history if not math.isnan(row[monitor])] or history
    choose = max if mode == "max" else min
    return choose(rows, key=lambda row: row[monitor])
