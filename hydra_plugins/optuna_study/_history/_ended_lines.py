"""EndedLines: the lines that the command prints about trials that have ended."""

import time
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from .._budget import best_trial, completion_order, count_trials, is_interrupted
from .._status import duration_text, print_line, trial_line


class EndedLines:
    """Prints a line for each trial that ended since the last look, with the study as it was then.

    Args:
        trials: the trials at the start, of which none is printed.
        directions: minimize or maximize for each objective.
        n_trials: number of finished trials that complete the study, if it has one.
    """

    def __init__(self, trials: Sequence[FrozenTrial], directions: Sequence[str], n_trials: int | None) -> None:
        self._directions = directions
        self._n_trials = n_trials
        self._printed = {trial.number for trial in trials if trial.state.is_finished()}
        self._finished = self._finished_before = count_trials(trials).finished
        self._best: FrozenTrial | None = None
        self._compare(*trials)
        self._begin = time.monotonic()

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in self._printed]
        for trial in sorted(ended, key=completion_order):
            self._printed.add(trial.number)
            self._finished += trial.state != TrialState.FAIL
            self._compare(trial)
            line = trial_line(trial, self._best, self._finished, self._n_trials)
            new = self._finished - self._finished_before
            left = 0 if self._n_trials is None else self._n_trials - self._finished
            if new > 0 and left > 0 and not is_interrupted(trial):
                line += f" | {duration_text((time.monotonic() - self._begin) / new * left)} left"
            print_line(line)

    def _compare(self, *trials: FrozenTrial) -> None:
        if len(self._directions) == 1:
            known = trials if self._best is None else (self._best, *trials)
            self._best = best_trial(known, self._directions[0] == "maximize")
