"""Epochs over stored activations without Lightning's loop, whose work around a step takes longer than such a step.

Lightning's trainer still sets up and resumes the run, calls the callbacks at the ends of epochs and writes the
checkpoints. In between, this loop does what Lightning's does, in the same order, and counts batches and steps where
Lightning counts them: the metrics are equal, and a run that was interrupted in one loop continues in the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.strategies import SingleDeviceStrategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from eyegender.core.schema import TrainConfig
    from eyegender.models.classifier import Classifier

# The precisions without a gradient scaler.
_PRECISIONS = {"32-true", "bf16-mixed"}


def can_train_plainly(cfg: TrainConfig, trainer: pl.Trainer, precision: str) -> bool:
    """Whether `PlainEpochs` can train: one process, no micro-batches, no gradient scaler.

    The caller sees to the rest: batches of stored activations, and no callbacks but those of a run itself.
    """
    one_device = trainer.world_size == 1 and type(trainer.strategy) is SingleDeviceStrategy
    return one_device and precision in _PRECISIONS and cfg.trainer.on_oom == "stop"


class PlainEpochs:
    """Trains the epochs of Lightning's `trainer.fit`, which calls `advance` once per epoch.

    An epoch that was interrupted in the middle is finished by Lightning's loop.

    Args:
        trainer: the trainer, before its `fit`.
        module: the classifier that it will train.
    """

    def __init__(self, trainer: pl.Trainer, module: Classifier) -> None:
        self.trainer, self.module = trainer, module
        self._lightning = trainer.fit_loop.advance
        trainer.fit_loop.advance = self.advance  # type: ignore[method-assign]

    def advance(self) -> None:
        """Train and validate one epoch."""
        if self.trainer.fit_loop.restarting:
            self._lightning()
            return
        self._train()
        self.trainer.validating = True
        with torch.no_grad():
            self._validate()
        self.trainer.training = True

    def _train(self) -> None:
        trainer, module = self.trainer, self.module
        loop = trainer.fit_loop.epoch_loop
        batches, updates = loop.batch_progress, loop.automatic_optimization.optim_progress.optimizer
        for progress in (batches, loop.scheduler_progress, loop.automatic_optimization.optim_progress):
            progress.reset_on_run()
        loop.val_loop.batch_progress.total.reset()
        [optimizer] = trainer.optimizers
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        clip, count = trainer.gradient_clip_val, trainer.num_training_batches
        after_batch = self._hooks("on_train_batch_end")
        for index, given in enumerate(trainer.train_dataloader):  # type: ignore[arg-type]
            batch = self._on_device(given)
            batches.is_last_batch = index + 1 == count
            batches.increment_ready()
            batches.increment_started()
            updates.step.increment_ready()
            with trainer.precision_plugin.train_step_context():
                loss = module.training_step(batch, index)
            updates.zero_grad.increment_by(1)
            optimizer.zero_grad()
            module.backward(loss)
            module.configure_gradient_clipping(optimizer, clip)
            with module.overflow_is_not_finite():
                optimizer.step()
            updates.step.increment_completed()
            batches.increment_processed()
            for scheduler in schedulers:
                scheduler.step()
                loop.scheduler_progress.increment_by(1)
            for hook in after_batch:
                hook(trainer, module, None, batch, index)
            batches.increment_completed()
            if trainer.should_stop:
                break

    def _validate(self) -> None:
        trainer, module = self.trainer, self.module
        batches = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        batches.reset_on_run()
        self._set_mode(training=False)
        for name in ("on_validation_start", "on_validation_epoch_start"):
            self._call(name)
        module.on_validation_epoch_start()
        loader = trainer.val_dataloaders
        assert loader is not None
        for index, batch in enumerate(loader):
            batches.increment_by(1, is_last_batch=index + 1 == len(loader))
            with trainer.precision_plugin.val_step_context():
                module.validation_step(self._on_device(batch), index)
        self._call("on_validation_epoch_end")
        # As Lightning's `log_dict`: the callback of the best checkpoint looks there.
        values = module.publish_epoch()
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        self._call("on_validation_end")
        self._set_mode(training=True)

    def _set_mode(self, *, training: bool) -> None:
        """The mode of the stages that train; the frozen ones, which do not run, always stay in eval mode."""
        network = self.module.network
        network.training = training
        network.suffix.train(training)
        network.head.train(training)

    def _on_device(self, batch: Any) -> Any:
        return batch if self.module.device.type == "cpu" else self.trainer.strategy.batch_to_device(batch)

    def _call(self, name: str) -> None:
        for hook in self._hooks(name):
            hook(self.trainer, self.module)

    def _hooks(self, name: str) -> list[Callable[..., None]]:
        """The callbacks' own methods of this name. Checkpoints are written at the ends of epochs only."""
        return [
            getattr(callback, name)
            for callback in self.trainer.callbacks  # type: ignore[attr-defined]
            if not isinstance(callback, Checkpoint) and getattr(type(callback), name) is not getattr(pl.Callback, name)
        ]
