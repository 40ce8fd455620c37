"""The live bar of a training: batches of the epoch, loss and accuracy so far, and the time that is left."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from eyegender.core.command_line.live_bar import LiveBar, live_bar, shows_bars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from eyegender.models.classifier import Classifier

# Seconds between two updates of the counts, and of the values: to read these, a GPU must finish its steps.
_COUNTS_EVERY, _VALUES_EVERY = 0.2, 1.0


def epoch_label(epoch: int, epochs: int | None) -> str:
    """The beginning of a line about an epoch, which is counted from 1; all of a run have one width."""
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}"


class EpochBar(pl.Callback):
    """Shows a bar of the current epoch, while `shown` is open in a process that shows bars."""

    def __init__(self) -> None:
        self._bar: LiveBar | None = None
        self._counted = self._read = 0.0
        self._forget()

    @contextmanager
    def shown(self, what: str) -> Iterator[None]:
        """Show the bar in this block; without a terminal, show nothing."""
        if not shows_bars(among_lines=True):
            yield
            return
        with live_bar(what) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def _forget(self) -> None:
        self._batches = self._correct = self._images = 0
        self._loss = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: Any) -> None:
        self._begin, self._begun_at = time.monotonic(), trainer.fit_loop.epoch_loop.batch_progress.total.completed

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if self._bar is None:
            return
        self._forget()
        label = epoch_label(trainer.current_epoch + 1, trainer.max_epochs)
        self._bar.update(description=label, completed=0, total=trainer.num_training_batches, values="")

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, module: Classifier, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        now, done, count = time.monotonic(), batch_idx + 1, trainer.num_training_batches
        if self._bar is None or (done < count and now - self._counted < _COUNTS_EVERY):
            return
        self._counted = now
        epochs = trainer.max_epochs or 0
        begun = self._begun_at / count
        passed = trainer.current_epoch + done / count - begun
        left = (now - self._begin) * (epochs - begun - passed) / passed if passed > 0 else None
        changes: dict[str, Any] = {"completed": done, "total": count, "left": left}
        if done == count or now - self._read >= _VALUES_EVERY:
            self._read = now
            changes["values"] = self._values(module)
        self._bar.update(description=epoch_label(trainer.current_epoch + 1, epochs), **changes)

    def on_validation_start(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update(values="validation")

    def on_test_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if self._bar is not None:
            self._bar.update(total=sum(map(int, trainer.num_test_batches)))

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.advance(1)

    def _values(self, module: Classifier) -> str:
        """Loss and accuracy of the epoch's batches so far."""
        metrics = module.split_metrics["on_train"]
        logits: list[Tensor] = metrics.logits[self._batches :]  # type: ignore[assignment, index]
        if logits:
            loss, correct, images = metrics.sums(self._batches)  # type: ignore[operator]
            self._loss, self._correct, self._images = self._loss + loss, self._correct + correct, self._images + images
            self._batches += len(logits)
        if not self._images:
            return ""
        return f"loss {self._loss / self._images:.4f} accuracy {100 * self._correct / self._images:.2f}%"
