"""The trial of rank zero: what the task reports goes to the storage."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError

from ._attrs import STEPS
from ._budget import attempt_of, first_number
from ._errors import TrialLost
from ._pruning import reports_of, should_prune
from ._trial import TrialHandle

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ._vigil import Vigil


class RunningTrial(TrialHandle):
    """Args:
    trial: Optuna's trial, already drawn.
    frozen: the same as it was read from the storage.
    vigil: knows whether the worker was asked to stop and whether the trial was lost.
    pruned_objective: index of the objective whose values the task reports.
    """

    def __init__(
        self,
        study: "optuna.Study",
        trial: "optuna.Trial",
        frozen: "FrozenTrial",
        vigil: "Vigil",
        *,
        params: Mapping[str, Any],
        directory: str,
        study_attrs: Mapping[str, Any],
        pruned_objective: int,
    ) -> None:
        self._storage = study._storage
        super().__init__(
            number=first_number(frozen),
            study_name=study.study_name,
            params=params,
            attempt=attempt_of(frozen),
            directory=directory,
            user_attrs=frozen.user_attrs,
            study_attrs=study_attrs,
            reported=reports_of(frozen),
            is_rank_zero=True,
        )
        self._study = study
        self._trial = trial
        self._vigil = vigil
        self._pruned_objective = pruned_objective

    @property
    def interrupted(self) -> bool:
        return self._vigil.asked_to_stop

    def report(self, value: float, step: int) -> None:
        value, step = float(value), int(step)
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        self._check()
        if step in self.reported:
            return
        self.reported[step] = value
        trial_id = self._trial._trial_id
        try:
            if len(self._study.directions) == 1:
                self._storage.set_trial_intermediate_value(trial_id, step, value)
            else:
                # JSON knows neither NaN nor inf, which pruners look for: those are kept as text.
                kept = {str(s): v if math.isfinite(v) else str(v) for s, v in self.reported.items()}
                self._storage.set_trial_system_attr(trial_id, STEPS, kept)
        except UpdateFinishedTrialError:
            raise self._lost() from None

    def should_prune(self) -> bool:
        self._check()
        if not self.reported:
            return False
        return should_prune(self._study, self._storage.get_trial(self._trial._trial_id), self._pruned_objective)

    def set_user_attr(self, key: str, value: Any) -> None:
        self._check()
        try:
            self._trial.set_user_attr(key, value)
        except UpdateFinishedTrialError:
            raise self._lost() from None
        self.user_attrs[key] = value

    def defer_interrupt(self, seconds: float = 20.0) -> None:
        self._vigil.defer(seconds)

    def _check(self) -> None:
        if self._vigil.lost:
            raise self._lost()

    def _lost(self) -> TrialLost:
        self._vigil.lost = True
        return TrialLost(f"trial {self.number} was taken for dead and given to another worker")
