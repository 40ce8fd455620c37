"""Follower: follows the trials of a study from read to read, and looks at each ended one once."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from .._budget import RETRY_HISTORY, is_interrupted


class Follower(ABC):
    """Looks at each trial until it has ended for good; storages refuse every later change.

    Trials that may still change are *open*: waiting and running ones, and an interrupted attempt until another one
    continues it.
    """

    def __init__(self) -> None:
        self.open: dict[int, FrozenTrial] = {}
        """The open trials of the last read by number, lowest first."""
        self._known = 0
        self._continued: set[int] = set()
        # Whether the next update may build on this one. Not after one that a signal interrupted, nor if a number was
        # missing.
        self._is_valid = True
        self._mutex = threading.Lock()

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Follow the study to a later read.

        Args:
            trials: all trials of the study, lowest number first.
        """
        with self._mutex:
            has_all = not trials or trials[-1].number == len(trials) - 1
            if not (self._is_valid and has_all) or len(trials) < self._known or self._is_any_reopened(trials):
                self.open, self._known, self._continued = {}, 0, set()
                self._forget()
            self._is_valid = False
            # A trial that is waiting as before may be skipped: it changes only after it was started.
            changed = [
                trials[number]
                for number, known in self.open.items()
                if trials[number] is not known or known.state != TrialState.WAITING
            ]
            new = trials[self._known :]
            for trial in new:
                history = trial.system_attrs.get(RETRY_HISTORY, ())
                self._see_new(trial)
                for number in set(history) - self._continued:
                    self._continued.add(number)
                    self._see_continued(number)
            for trial in (*changed, *new):
                is_open = not trial.state.is_finished()
                if is_open or (is_interrupted(trial) and trial.number not in self._continued):
                    self.open[trial.number] = trial
                else:
                    self.open.pop(trial.number, None)
                self._see(trial)
            self._known = len(trials)
            self._is_valid = has_all

    def _is_any_reopened(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether a new attempt continues a trial that has ended, as a larger budget does."""
        over = (
            number
            for trial in trials[self._known :]
            for number in trial.system_attrs.get(RETRY_HISTORY, ())
            if number < self._known
        )
        return any(number not in self.open and number not in self._continued for number in over)

    @abstractmethod
    def _forget(self) -> None:
        """Start again; all trials come once more."""

    @abstractmethod
    def _see(self, trial: FrozenTrial) -> None:
        """Look at a trial that is in `open`, or that has just ended for good and does not come again."""

    def _see_new(self, trial: FrozenTrial) -> None:  # noqa: B027 - not every follower needs it
        """Look at a trial when it is first read, lowest number first."""

    def _see_continued(self, number: int) -> None:  # noqa: B027 - as above
        """Note that another attempt continues the attempt with this number."""
