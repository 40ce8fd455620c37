"""Attempts: how a trial continues after an attempt that has ended.

Optuna's finished trials never change. So another attempt continues an interrupted trial, and in the same way one that
was paused when a smaller budget ended, and was pruned for that alone. The attempt that is continued counts no longer.
"""

from collections.abc import Mapping
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from .._budget import (
    ALIVE,
    COMPLETION,
    FIRST_ATTEMPT,
    INTERRUPTED,
    OWNER,
    PAUSED,
    RETRY_HISTORY,
    Budget,
    continued_attempts,
    first_number,
    was_paused,
)
from .._trial import WAS_PRUNED
from ._spending import Limit

# Attributes of one attempt, which the next one does not inherit.
_PER_ATTEMPT = (OWNER, ALIVE, INTERRUPTED, COMPLETION, PAUSED)


def next_attempt(trial: FrozenTrial) -> FrozenTrial:
    """A waiting trial with the parameters, reports and user attributes of this attempt, which it continues."""
    attrs = {key: value for key, value in trial.system_attrs.items() if key not in _PER_ATTEMPT}
    attrs[FIRST_ATTEMPT] = first_number(trial)
    attrs[RETRY_HISTORY] = [*attrs.get(RETRY_HISTORY, ()), trial.number]
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=attrs,
        intermediate_values=trial.intermediate_values,
    )


def is_larger(budget: Budget, stored: Mapping[str, Any]) -> bool:
    """Whether a study may have more trials or may spend more than its last sweep.

    Args:
        budget: of this sweep.
        stored: settings of the last sweep.
    """
    before = Limit.parse(stored.get("budget"))
    if before is not None and (
        budget.limit is None or budget.limit.in_epochs != before.in_epochs or budget.limit.amount > before.amount
    ):
        return True
    n_trials = stored.get("n_trials")
    return n_trials is not None and budget.most_trials > n_trials


def reopen(storage: BaseStorage, study_id: int) -> None:
    """Let the trials that were pruned while they were paused wait again, as paused ones."""
    trials = storage.get_all_trials(study_id, deepcopy=False)
    continued = continued_attempts(trials)
    for trial in trials:
        if was_paused(trial) and trial.number not in continued:
            again = next_attempt(trial)
            again.system_attrs[PAUSED] = trial.system_attrs[PAUSED]
            again.user_attrs[WAS_PRUNED] = True
            storage.create_new_trial(study_id, again)
