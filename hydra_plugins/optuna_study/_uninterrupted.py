"""A study's trials as they would be if no attempt had ever been interrupted.

Samplers and pruners go by trial numbers (Hyperband takes a trial's bracket from it, the grid sampler its cell) and
count every trial they see. To them the attempts of one trial are that one trial, numbered as if there were no retries.
"""

import copy
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial

from ._attrs import RETRY_HISTORY
from ._budget import attempt_of, first_number


def uninterrupted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The last attempt of each trial, in the order of the first ones; an attempt that waits to be continued is one."""
    continued = {number for trial in trials for number in trial.system_attrs.get(RETRY_HISTORY, ())}
    if not continued:
        return list(trials)
    firsts = sorted(trial.number for trial in trials if not attempt_of(trial))
    places = {number: place for place, number in enumerate(firsts)}
    shown = [
        _numbered(trial, places.get(first_number(trial), trial.number))
        for trial in trials
        if trial.number not in continued
    ]
    return sorted(shown, key=lambda trial: trial.number)


def place_of(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> int:
    """The number that this trial has among them all when retries take up none."""
    first = first_number(trial)
    return first - sum(1 for other in trials if other.number < first and attempt_of(other))


def _numbered(trial: FrozenTrial, number: int) -> FrozenTrial:
    if trial.number == number:
        return trial
    shown = copy.copy(trial)
    shown.number = number
    return shown
