"""Lightning callbacks of a fit.

An epoch ends in a fixed order, so that the record of a run, its checkpoints and its trial agree wherever it is
interrupted:

1. `on_train_epoch_end`: the metrics of the epoch enter the history, the trial reports its value, and `best.ckpt` and
   `last.ckpt` are written.
2. `on_train_epoch_start` of the next epoch, which the last epoch does not reach: the tracking store receives the
   metrics, and the pruner or a signal may end the run.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from eyegender.core.command_line.durations import duration_text
from eyegender.tracking.names import curve_points
from eyegender.training.averaging import AveragedWeights
from eyegender.training.checkpoints import BestCheckpoint
from eyegender.training.display.epoch_bar import epoch_label
from eyegender.training.interruptions import StoppedBySignalError
from hydra_plugins.optuna_study import TrialPaused, TrialPruned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from eyegender.models.classifier import Classifier
    from eyegender.tracking.tracker import Tracker
    from eyegender.training.interruptions import StopSignal
    from hydra_plugins.optuna_study import TrialHandle

History = list[dict[str, float]]
"""One row of metrics per finished epoch, with `epoch` counted from 1."""

HISTORY_KEY = "Epochs"  # key of the history's state in checkpoints: the name of its class in version 0.1

log = logging.getLogger("eyegender")


class EpochHistory(pl.Callback):
    """Records one row of metrics per finished epoch, logs it and sends it to the tracking store.

    Args:
        tracker: tracker of the run, or None on other ranks than zero.
        max_steps: number of optimizer steps after which training ends; -1 for no limit.
    """

    def __init__(self, tracker: Tracker | None, max_steps: int = -1) -> None:
        self.tracker, self.max_steps = tracker, max_steps
        self.rows: History = []
        self._sent = 0
        self._epoch_start = 0.0
        self._seconds_before = 0.0  # in this epoch, before the run was resumed

    @property
    def state_key(self) -> str:
        return HISTORY_KEY

    def on_train_start(self, trainer: pl.Trainer, _module: Any) -> None:
        # An epoch that is repeated must not have two rows.
        self.rows = [row for row in self.rows if row["epoch"] <= trainer.current_epoch]
        self.send()
        # In the middle of an epoch, Lightning does not call on_train_epoch_start again.
        self._epoch_start = time.monotonic() - self._seconds_before

    def on_train_epoch_start(self, *_: Any) -> None:
        self._epoch_start = time.monotonic()
        self.send()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Lightning's own max_steps does not validate an epoch that ends early, and a run with a higher limit would not
        # continue after it.
        if 0 < self.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        epoch = trainer.current_epoch + 1
        seconds = time.monotonic() - self._epoch_start
        row = {"epoch": float(epoch), "lr": module.current_lr(), "epoch_seconds": seconds}
        row |= module.epoch_values
        self.rows.append(row)
        if trainer.is_global_zero:
            log.info(
                "%s  loss %.4f val %.4f  accuracy %.2f%% val %.2f%%  %s",
                epoch_label(epoch, trainer.max_epochs),
                row["train/loss"],
                row["val/loss"],
                100 * row["train/accuracy"],
                100 * row["val/accuracy"],
                duration_text(seconds),
            )

    def send(self) -> None:
        """Send the rows that were not sent yet; after a resumption all of them, since the store may have lost the run.

        The tracking store ignores values that it already has.
        """
        if self.tracker is None:
            return
        for row in self.rows[self._sent :]:
            self.tracker.log_metrics(curve_points(row), step=int(row["epoch"]))
        self._sent = len(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.rows, "epoch_seconds": time.monotonic() - self._epoch_start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["history"])
        self._seconds_before = float(state.get("epoch_seconds", 0.0))


def stored_history(checkpoint: Mapping[str, Any]) -> History:
    """The history in a checkpoint."""
    rows: History = checkpoint["callbacks"][HISTORY_KEY]["history"]
    return rows


def row_of_epoch(history: History, epoch: int) -> dict[str, float]:
    """The row of an epoch, counted from 1."""
    return next(row for row in history if row["epoch"] == epoch)


class SaveOrigin(pl.Callback):
    """Writes into each checkpoint to which run, config and data it belongs.

    Args:
        origin: returns the keys to add to the checkpoint at the time when it is saved.
    """

    def __init__(self, origin: Callable[[], dict[str, Any]]) -> None:
        self.origin = origin

    def on_save_checkpoint(self, _trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint |= self.origin()


HAS_PAUSED = "has_paused"  # user attribute of a trial whose MLflow run may say that it is paused


class ReportToTrial(pl.Callback):
    """Reports the monitored metric of each epoch to a trial, and ends the fit if the trial should pause or be pruned.

    Rank zero asks the scheduler and the pruner, and all ranks stop together, because a rank that continues would wait
    for the others forever. The report comes before the checkpoints: a process that has lost its trial must not write
    any. A run that has ended neither pauses nor is pruned.

    Args:
        trial: the trial.
        monitor: key of the metric.
        max_steps: number of optimizer steps after which training ends; -1 for no limit.
    """

    def __init__(self, trial: TrialHandle, monitor: str, max_steps: int = -1) -> None:
        self.trial, self.monitor, self.max_steps = trial, monitor, max_steps
        self._began = self._reported = False

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        self.trial.report(module.epoch_values[self.monitor], step=trainer.current_epoch + 1)
        self._reported = True

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if not self._began:
            self._began = True
            epochs = trainer.max_epochs or 0
            if self.max_steps > 0:
                epochs = min(epochs, math.ceil(self.max_steps / trainer.num_training_batches))
            self.trial.set_max_resource(epochs)
        if not self._reported:
            return  # the pruner has judged the last epoch before the interruption
        pause, prune = self.trial.should_pause(), self.trial.should_prune()
        if trainer.world_size > 1:
            pause, prune = trainer.strategy.broadcast((pause, prune))
        if prune:
            raise TrialPruned(f"pruned after epoch {trainer.current_epoch}")
        if pause:
            self.trial.set_user_attr(HAS_PAUSED, True)
            raise TrialPaused(f"paused after epoch {trainer.current_epoch}")


class StopOnSignal(pl.Callback):
    """Ends the fit at the first step after a signal, on all ranks at once, with a checkpoint to resume from.

    Between two epochs, that is the checkpoint of the epoch's end.

    Args:
        stop: the signals of this process.
        checkpoint: path of `last.ckpt`.
    """

    def __init__(self, stop: StopSignal, checkpoint: Path) -> None:
        self.stop, self.checkpoint = stop, checkpoint
        self._between_epochs = False

    def on_train_start(self, *_: Any) -> None:
        self.stop.restore_handlers()

    def on_validation_start(self, *_: Any) -> None:
        self.stop.restore_handlers()

    def on_test_start(self, *_: Any) -> None:
        self.stop.restore_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: Any, _outputs: Any, _batch: Any, batch_idx: int) -> None:
        number = self._signal_of_any_rank(trainer)
        # A checkpoint between the last step of an epoch and its validation would lose the validation.
        if number and batch_idx + 1 < trainer.num_training_batches and not trainer.should_stop:
            trainer.save_checkpoint(self.checkpoint)
            raise StoppedBySignalError(number, self.checkpoint)

    def on_train_epoch_end(self, *_: Any) -> None:
        self._between_epochs = True

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if self._between_epochs and (number := self._signal_of_any_rank(trainer)):
            raise StoppedBySignalError(number, self.checkpoint)

    def _signal_of_any_rank(self, trainer: pl.Trainer) -> int:
        """The signal that any rank has received, or 0; ranks that disagree would wait for each other forever."""
        own = self.stop.number or 0
        if trainer.world_size == 1:
            return own
        highest = torch.tensor(own, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
        return int(highest)


def fit_callbacks(
    folder: Path,
    history: EpochHistory,
    stop: StopSignal,
    *,
    monitor: str,
    mode: str,
    ema: float | None = None,
    trial: TrialHandle | None = None,
    resumed: Path | None = None,
) -> tuple[list[pl.Callback], BestCheckpoint]:
    """All callbacks of a fit in their order, and the one among them that knows the best checkpoint.

    Args:
        folder: folder of `best.ckpt` and `last.ckpt`.
        history: history of the run.
        stop: signals of this process.
        monitor: metric by which the best epoch is chosen.
        mode: `min` or `max`.
        ema: decay of the averaged weights per step, or None.
        trial: trial of a sweep that this run is, or None.
        resumed: checkpoint from which the run resumes, or None.
    """
    best = BestCheckpoint(
        resumed, filename="best", monitor=monitor, mode=mode, save_top_k=1,
        dirpath=folder, enable_version_counter=False, save_on_train_epoch_end=True,
    )  # fmt: skip
    last = ModelCheckpoint(
        filename="last", save_top_k=1, dirpath=folder, enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks = [
        history,
        *([AveragedWeights(ema)] if ema is not None else []),
        *([ReportToTrial(trial, monitor, history.max_steps)] if trial is not None else []),
        best,
        last,
        StopOnSignal(stop, folder / "last.ckpt"),
    ]
    return callbacks, best
