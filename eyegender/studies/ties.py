"""Trials that share the best value: none of them is the winner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra_plugins.optuna_study import StudyStatus, TrialRow

# More trials than this are not named one by one.
_MOST_NAMED = 8


def tied(status: StudyStatus) -> Sequence[TrialRow]:
    """The trials that reach the best value where several do, in order of their numbers; of one objective only."""
    if len(status.directions) != 1 or not status.best:
        return ()
    found = [trial for trial in status.best if trial.values == status.best[0].values]
    return found if len(found) > 1 else ()


def tie_sentence(status: StudyStatus) -> str | None:
    """`4 trials tie at 0.9000: 0, 2, 5 and 7`; None where there is no tie."""
    found = tied(status)
    if not found:
        return None
    numbers = [str(trial.number) for trial in found]
    if len(numbers) > _MOST_NAMED:
        numbers = [*numbers[: _MOST_NAMED - 1], f"{len(numbers) - _MOST_NAMED + 1} more"]
    named = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"{len(found)} trials tie at {found[0].values[0]:.6g}: {named}"
