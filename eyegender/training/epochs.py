"""Tells the tracking store and the console about every finished epoch, and keeps the curves for the figures."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from eyegender.models.classifier import Classifier
    from eyegender.tracking.tracker import Tracker

log = logging.getLogger("eyegender")

History = list[dict[str, float]]


class Epochs(pl.Callback):
    """One row of metrics per finished epoch, with `epoch` counted from 1; its state travels in the checkpoint."""

    def __init__(self, tracker: Tracker | None) -> None:
        self.tracker = tracker
        self.history: History = []
        self._began = 0.0
        self._spent = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: Any) -> None:
        # The store drops what it holds; one that has lost the run needs the epochs before the checkpoint, too.
        for row in self.history:
            if row["epoch"] <= trainer.current_epoch:
                self._track(row)
        # What goes on in the middle of an epoch does not start it again.
        self._began = time.monotonic() - self._spent

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        self._began = time.monotonic()
        # Of an epoch that was interrupted before its checkpoint the row would stand there twice.
        self.history = [row for row in self.history if row["epoch"] <= trainer.current_epoch]

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Where the last step falls into the middle of an epoch, Lightning would end without validating.
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        epoch = trainer.current_epoch + 1
        row = {"epoch": float(epoch), "lr": module.current_lr(), "epoch_seconds": time.monotonic() - self._began}
        row |= module.epoch_values
        self.history.append(row)
        self._track(row)
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

    def _track(self, row: dict[str, float]) -> None:
        if self.tracker is not None:
            values = {name: value for name, value in row.items() if name != "epoch"}
            self.tracker.metrics(values, step=int(row["epoch"]))

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "epoch_seconds": time.monotonic() - self._began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = list(state["history"])
        self._spent = float(state.get("epoch_seconds", 0.0))


def best_row(history: History, monitor: str, mode: str) -> dict[str, float]:
    """The first epoch with the best value of `monitor`, the one whose checkpoint was kept."""
    choose = max if mode == "max" else min
    return choose(history, key=lambda row: row[monitor])
