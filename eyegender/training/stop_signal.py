"""SIGTERM, SIGHUP and Ctrl-C stop a training at its next step, with a checkpoint; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from hydra_plugins.optuna_study import TrialHandle

from contextlib import contextmanager

HANGUP = getattr(signal, "SIGHUP", None)  # of a terminal that closes; Windows has none
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([HANGUP] if HANGUP else []))


class StoppedBySignalError(Exception):
    """The run was asked to stop; `checkpoint` is where it can go on, None when it had not begun to train."""

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(number, checkpoint)
        self.number, self.checkpoint = number, checkpoint


class StopSignal:
    """Remembers the first signal. The handler does nothing else: saving inside a handler hangs or corrupts."""

    def __init__(self, trial: TrialHandle | None = None) -> None:
        self.trial = trial
        self._number: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def number(self) -> int | None:
        """The signal that came, or None. In a trial it is the sweep's worker that receives it."""
        if self.trial is not None:
            return signal.SIGTERM if self.trial.interrupted else None
        return self._number

    @contextmanager
    def caught(self) -> Iterator[StopSignal]:
        """Catch the signals inside the block; elsewhere than in the main thread Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if HANGUP and before[HANGUP] == signal.SIG_IGN:  # under nohup
            del before[HANGUP]
        self._handlers = before if self.trial is not None else dict.fromkeys(before, self._note)
        self.reclaim()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reclaim(self) -> None:
        """Take the signals back from Lightning, whose trainer puts a handler of its own around the one it finds.

        That one ends a run which is validating or testing without a word, and with exit status 0.
        """
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = self._number or number

    def check(self) -> None:
        """Raises StoppedBySignalError when a signal has come, for the stretches of a run outside training."""
        if self.number is not None:
            raise StoppedBySignalError(self.number, None)


class StopOnSignal(pl.Callback):
    """Ends the fit at the first step boundary after a signal, on all ranks at once, with `last.ckpt` to go on from.

    Between epochs that is what the epoch's end has left; `Epochs` says in which order.
    """

    def __init__(self, stop: StopSignal, checkpoint: Path) -> None:
        self.stop, self.checkpoint = stop, checkpoint
        self._between_epochs = False

    def on_train_start(self, *_: Any) -> None:
        self.stop.reclaim()

    def on_validation_start(self, *_: Any) -> None:
        self.stop.reclaim()

    def on_test_start(self, *_: Any) -> None:
        self.stop.reclaim()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: Any, _outputs: Any, _batch: Any, batch_idx: int) -> None:
        number = self._agreed(trainer)
        # A checkpoint after an epoch's last step but before its validation would lose that validation.
        if number and batch_idx + 1 < trainer.num_training_batches and not trainer.should_stop:
            trainer.save_checkpoint(self.checkpoint)
            raise StoppedBySignalError(number, self.checkpoint)

    def on_train_epoch_end(self, *_: Any) -> None:
        self._between_epochs = True

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: Any) -> None:
        if self._between_epochs and (number := self._agreed(trainer)):
            raise StoppedBySignalError(number, self.checkpoint)

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal that any rank has received, 0 for none: ranks that disagree would wait for each other for ever."""
        own = self.stop.number or 0
        if trainer.world_size == 1:
            return own
        highest = torch.tensor(own, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
        return int(highest)
