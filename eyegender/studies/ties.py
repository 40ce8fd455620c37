"""Trials that tie for the best value: none of them is called the winner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra_plugins.optuna_study import StudyStatus, TrialRow

# A sentence lists at most this many trials.
_MOST_LISTED = 8


def tied(status: StudyStatus) -> Sequence[TrialRow]:
    """The trials that share the best value, by number; empty without a tie or with several objectives."""
    if len(status.directions) != 1 or not status.best:
        return ()
    equal = [trial for trial in status.best if trial.values == status.best[0].values]
    return equal if len(equal) > 1 else ()


def tie_sentence(status: StudyStatus) -> str | None:
    """For example `4 trials tie at 0.9: 0, 2, 5 and 7`; None if there is no tie."""
    trials = tied(status)
    if not trials:
        return None
    numbers = [str(trial.number) for trial in trials]
    if len(numbers) > _MOST_LISTED:
        numbers = [*numbers[: _MOST_LISTED - 1], f"{len(numbers) - _MOST_LISTED + 1} more"]
    listed = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"{len(trials)} trials tie at {trials[0].values[0]:.6g}: {listed}"
