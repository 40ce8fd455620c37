"""EndedLines: the lines that the command prints about trials that have ended."""

import time
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from .._budget import best_trial, completion_order, first_number, is_interrupted
from .._monitoring._lines import duration_text, print_line, trial_line, values_text
from ._follower import Follower


class EndedLines(Follower):
    """Prints a line for each trial that ended since the last look, with the study as it was then.

    Args:
        trials: the trials at the start, of which none is printed.
        directions: minimize or maximize for each objective.
        n_trials: number of finished trials that complete the study, if it has one.
        with_state: end each line with the state of the study; without it, something else shows `state`.
    """

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        directions: Sequence[str],
        n_trials: int | None,
        *,
        with_state: bool = True,
    ) -> None:
        super().__init__()
        self._directions = directions
        self._n_trials = n_trials
        self._with_state = with_state
        self._told: set[int] = set()
        self._finished: set[int] = set()
        self._best: FrozenTrial | None = None
        self._keys: dict[str, None] = {}
        self._forget()
        self.update(trials)
        for trial in self._ended:
            self._count(trial)
        self._finished_before, self._begin = len(self._finished), time.monotonic()

    def _forget(self) -> None:
        self._ended: list[FrozenTrial] = []

    def _see(self, trial: FrozenTrial) -> None:
        self._keys |= dict.fromkeys(name.partition(" (")[0] for name in trial.params)
        if trial.state.is_finished() and trial.number not in self._told:
            self._ended.append(trial)

    def _see_continued(self, number: int) -> None:
        self._finished.discard(number)

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        self._ended = []
        self.update(trials)
        for trial in sorted(self._ended, key=completion_order):
            self._count(trial)
            parts = [trial_line(trial, self._keys)]
            if self._with_state and not is_interrupted(trial):
                parts += self.state()
            print_line(" | ".join(parts))

    def state(self) -> list[str]:
        """The best trial so far, the finished trials, and the estimated time that is left."""
        finished = len(self._finished)
        parts = []
        if self._best is not None:
            parts.append(f"best {values_text(self._best.values[:1])} (trial {first_number(self._best)})")
        parts.append(f"{finished} finished" if self._n_trials is None else f"{finished}/{self._n_trials} finished")
        new = finished - self._finished_before
        left = 0 if self._n_trials is None else self._n_trials - finished
        if new > 0 and left > 0:
            parts.append(f"{duration_text((time.monotonic() - self._begin) / new * left)} left")
        return parts

    def _count(self, trial: FrozenTrial) -> None:
        self._told.add(trial.number)
        if trial.state != TrialState.FAIL and trial.number not in self._continued:
            self._finished.add(trial.number)
        if len(self._directions) == 1:
            known = [trial] if self._best is None else [self._best, trial]
            self._best = best_trial(known, self._directions[0] == "maximize")
