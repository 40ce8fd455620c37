"""A run as a trial of a sweep: reports the objective after each validation, and stops when the pruner says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from eyegender.core.errors import UserError
from eyegender.training.checkpoint_io import load_checkpoint
from hydra_plugins.optuna_study import TrialPruned

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.models.classifier import Classifier
    from hydra_plugins.optuna_study import TrialHandle

log = logging.getLogger("eyegender")


class ReportToTrial(pl.Callback):
    """Rank zero reports and asks; all ranks stop together: one that went on would wait for the others for ever.

    It reports before a checkpoint is written, for whoever has lost the trial must not write any, and asks the pruner
    where the next epoch would begin: what has ended is not pruned.
    """

    def __init__(self, trial: TrialHandle, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self._reported = False

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        self.trial.report(module.epoch_values[self.monitor], step=trainer.current_epoch + 1)
        self._reported = True

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if not self._reported:
            return  # of an epoch before the interruption the pruner was asked then
        stop = self.trial.should_prune()
        if trainer.world_size > 1:
            stop = trainer.strategy.broadcast(stop)
        if stop:
            raise TrialPruned(f"pruned after epoch {trainer.current_epoch}")


def checkpoint_to_continue(output_dir: Path) -> str | None:
    """Where an earlier attempt of the run in this folder stopped; None when there is nothing whole to go on from."""
    for name, otherwise in (("last", "looking at best.ckpt"), ("best", "the run begins anew")):
        path = output_dir / "checkpoints" / f"{name}.ckpt"
        if not path.is_file():
            continue
        try:
            load_checkpoint(path)
        except UserError as error:
            log.warning("%s; %s", error, otherwise)
        else:
            return str(path)
    return None
