"""The callbacks of a fit, in the order in which an epoch ends; `Epochs` says why in that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from eyegender.training.best_checkpoint import BestCheckpoint
from eyegender.training.stop_signal import StopOnSignal
from eyegender.training.trial_callback import ReportToTrial

if TYPE_CHECKING:
    from pathlib import Path

    import pytorch_lightning as pl

    from eyegender.training.epochs import Epochs
    from eyegender.training.stop_signal import StopSignal
    from hydra_plugins.optuna_study import TrialHandle


def fit_callbacks(
    folder: Path,
    epochs: Epochs,
    stop: StopSignal,
    *,
    monitor: str,
    mode: str,
    ema: float | None = None,
    trial: TrialHandle | None = None,
    resumed: Path | None = None,
) -> tuple[list[pl.Callback], BestCheckpoint]:
    """All of them, and the one that knows the best epoch.

    Args:
        folder: for `best.ckpt` and `last.ckpt`.
        epochs: keeps the history.
        stop: knows of signals.
        monitor: what the best epoch is best by.
        mode: `min` or `max`.
        ema: decay of averaged weights.
        trial: of a sweep.
        resumed: the checkpoint that the run goes on from.
    """
    best = BestCheckpoint(
        resumed, filename="best", monitor=monitor, mode=mode, save_top_k=1,
        dirpath=folder, enable_version_counter=False, save_on_train_epoch_end=True,
    )  # fmt: skip
    last = ModelCheckpoint(
        filename="last", save_top_k=1, dirpath=folder, enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks = [
        epochs,
        *([EMAWeightAveraging(decay=ema)] if ema is not None else []),
        *([ReportToTrial(trial, monitor)] if trial is not None else []),
        best,
        last,
        StopOnSignal(stop, folder / "last.ckpt"),
    ]
    return callbacks, best
