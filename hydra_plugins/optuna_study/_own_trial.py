"""A worker's view of the storage, in which its own trial is read from memory.

Nobody else writes to a running trial, unless its worker was taken for dead; then every write of this worker is refused
by the storage. So there is no need to ask for what was written here, and asking costs Optuna six queries each time.
"""

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ._patient import delegating
from ._uninterrupted import uninterrupted


class OwnTrial:
    """Trials are numbered, for samplers and pruners, as if none had been interrupted.

    Args:
    inner: the storage, to which everything is written and from which everything else is read.
    """

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner
        self._own: FrozenTrial | None = None

    def adopt(self, trial: FrozenTrial | None, number: int | None = None) -> None:
        """Answer for this running trial from now on, until its state changes; None: for none.

        Args:
        number: under which samplers and pruners know it; None: its own.
        """
        self._own = copy.deepcopy(trial)
        if self._own is not None and number is not None:
            self._own.number = number

    def get_trial(self, trial_id: int) -> FrozenTrial:
        own = self._mine(trial_id)
        return copy.deepcopy(own) if own is not None else self.inner.get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = uninterrupted(self.inner.get_all_trials(study_id, deepcopy=False))
        wanted = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(wanted) if deepcopy else wanted

    # Optuna's own of these ask get_trial.
    get_trial_param = BaseStorage.get_trial_param
    get_trial_params = BaseStorage.get_trial_params
    get_trial_user_attrs = BaseStorage.get_trial_user_attrs
    get_trial_system_attrs = BaseStorage.get_trial_system_attrs
    get_trial_number_from_id = BaseStorage.get_trial_number_from_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.inner.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        own = self._mine(trial_id)
        if own is not None:
            own.params = {**own.params, param_name: distribution.to_external_repr(param_value_internal)}
            own.distributions = {**own.distributions, param_name: distribution}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.inner.set_trial_user_attr(trial_id, key, value)
        own = self._mine(trial_id)
        if own is not None:
            own.user_attrs = {**own.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.inner.set_trial_system_attr(trial_id, key, value)
        own = self._mine(trial_id)
        if own is not None:
            own.system_attrs = {**own.system_attrs, key: value}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.inner.set_trial_intermediate_value(trial_id, step, intermediate_value)
        own = self._mine(trial_id)
        if own is not None:
            own.intermediate_values = {**own.intermediate_values, step: intermediate_value}

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        try:
            return self.inner.set_trial_state_values(trial_id, state, values)
        finally:
            # Done or refused: from here on only the storage knows.
            if self._mine(trial_id) is not None:
                self._own = None

    def _mine(self, trial_id: int) -> FrozenTrial | None:
        own = self._own
        return own if own is not None and own._trial_id == trial_id else None


OWN_TRIAL: Any = delegating("OwnTrialStorage", OwnTrial)
