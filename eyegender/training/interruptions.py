"""What ends a run early: a signal, another process in its folder, numbers that are not finite, or too little memory.

Slurm restarts a job with the same command in the same folder; a run then resumes where it stopped.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from lightning_fabric.utilities import rank_zero_only

from eyegender.core.errors import UserError
from eyegender.core.file_locks import optional_file_lock
from eyegender.core.processes import is_requeued
from eyegender.tracking.errors import first_line
from eyegender.tracking.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.finite_check import NotFiniteError
    from hydra_plugins.optuna_study import TrialHandle

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal closes; Windows has no such signal
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([HANGUP] if HANGUP else []))
LOCK_FILE = "run.lock"
LOCK_ADVICE = "make sure that no second process resumes this run"

log = logging.getLogger("eyegender")


class StoppedBySignalError(Exception):
    """The run was asked to stop.

    Args:
        number: number of the signal.
        checkpoint: where the run can resume; None if training had not begun.
    """

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(number, checkpoint)
        self.number, self.checkpoint = number, checkpoint


class StopSignal:
    """Remembers the first signal; its handler does nothing else, because saving inside a handler can hang or corrupt.

    Args:
        trial: trial of a sweep that this run is, or None. The sweep's worker receives the signals of a trial.
    """

    def __init__(self, trial: TrialHandle | None = None) -> None:
        self.trial = trial
        self._number: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def number(self) -> int | None:
        """The signal that was received, or None."""
        if self.trial is not None:
            return signal.SIGTERM if self.trial.interrupted else None
        return self._number

    @contextmanager
    def caught(self) -> Iterator[StopSignal]:
        """Handle the signals inside the block; only in the main thread, since Python allows no handlers elsewhere."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if HANGUP and before[HANGUP] == signal.SIG_IGN:  # under nohup
            del before[HANGUP]
        self._handlers = before if self.trial is not None else dict.fromkeys(before, self._remember)
        self.restore_handlers()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def restore_handlers(self) -> None:
        """Replace the handlers of Lightning's trainer, which silently end a validating run with exit status 0."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C stops at once
        self._number = self._number or number

    def check(self) -> None:
        """Raises StoppedBySignalError if a signal was received; for the phases of a run outside training."""
        if self.number is not None:
            raise StoppedBySignalError(self.number, None)


class RunLock(ExitStack):
    """Lets one process at a time train a run; two would send every value to the tracking store twice.

    Rank zero holds the locks until the block ends or the process dies.

    Args:
        refuse: raise an error if another process holds a lock. The study decides which process owns a trial, so a
            trial only logs a warning.
    """

    def __init__(self, *, refuse: bool) -> None:
        super().__init__()
        self.refuse = refuse
        self._locked: set[Path] = set()
        self._works = True

    def take(self, *folders: Path) -> None:
        """Lock the folders in which the run writes, from which it resumes and in which it began.

        Another process that resumes the same run must lock one of them, too.

        Raises:
            UserError: another process trains this run.
        """
        for folder in folders:
            if getattr(rank_zero_only, "rank", 0) or not self._works or folder.resolve() in self._locked:
                continue
            self._locked.add(folder.resolve())
            try:
                self._works &= self.enter_context(optional_file_lock(folder / LOCK_FILE, 0, LOCK_ADVICE))
            except Timeout:
                problem = f"another process is training the run in {folder}"
                if self.refuse:
                    raise UserError(f"{problem}; wait until it ends, or stop it") from None
                log.warning("%s; the study has assigned the trial to this process", problem)
            except OSError as error:  # a folder without write permission
                log.warning("%s cannot be locked (%s); %s", folder, error.strerror or error, LOCK_ADVICE)
                self._works = False


def earlier_run_key(output_dir: Path) -> str | None:
    """Key of the run that this job began in its folder before it had a checkpoint, or None."""
    if not is_requeued() or not (output_dir / JOURNAL).is_file():
        return None
    begun = Journal(output_dir, writes=False).current_run()
    return None if begun is None else str(begun["key"])


def not_finite_error(error: NotFiniteError, data: EyesDataModule) -> UserError:
    """The error for a value that is not finite, with its step, its learning rate and the images of its batch."""
    names = tuple(data.samples.names[i] for i in error.index)
    return UserError(
        f"{error.what} is not finite at step {error.step} with learning rate {error.lr:.3g}; lower model.lr, "
        f"or look at the images of that batch: {', '.join(names[:4])}, …",
        names,
    )


def out_of_memory_error(error: BaseException, cfg: TrainConfig, step: int) -> UserError:
    """The error for exhausted memory, with the step and the keys to lower."""
    trainer, model = cfg.trainer, cfg.model
    lower = f"trainer.batch_size (now {trainer.batch_size}), trainer.eval_batch_size ({trainer.eval_batch_size})"
    halve = "" if trainer.on_oom == "halve" else ", or set trainer.on_oom=halve"
    return UserError(
        f"out of memory at step {step} ({first_line(error)}); lower {lower}, "
        f"data.size ({cfg.data.size}) or model.finetune_depth ({model.finetune_depth}){halve}"
    )
