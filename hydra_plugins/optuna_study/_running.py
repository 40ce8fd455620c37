"""The trial of rank zero: what the task reports goes to the storage."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError

from ._attrs import PRUNED_AT, STEPS
from ._budget import attempt_of, first_number
from ._errors import TrialLost
from ._pruning import has_rungs, reports_of, should_prune
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
        # Whether an earlier attempt ended before it could act on the pruner's answer to its last report.
        pruned_at = frozen.system_attrs.get(PRUNED_AT)
        self._inherited = pruned_at is not None and pruned_at == self.last_step
        self._repeats = False

    @property
    def interrupted(self) -> bool:
        return self._vigil.asked_to_stop

    def report(self, value: float, step: int) -> None:
        value, step = float(value), int(step)
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        self._check()
        self._repeats = step in self.reported and step != self.last_step
        if step in self.reported or self._inherited:
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
        if self._inherited:
            return True
        if not self.reported or self._repeats:  # an earlier attempt was asked about this step
            return False
        try:
            return self._ask()
        except UpdateFinishedTrialError:
            raise self._lost() from None

    def catch_up(self) -> None:
        """Ask about the last report of an earlier attempt, which may have ended before it asked.

        Only where asking again about a step changes nothing: the pruner notes what it was asked.
        """
        if self.is_retry and self.reported and not self._inherited and has_rungs(self._study.pruner):
            self._inherited = self._ask()

    def _ask(self) -> bool:
        trial_id = self._trial._trial_id
        prune = should_prune(self._study, self._storage.get_trial(trial_id), self._pruned_objective)
        if prune:
            # Should this attempt end before it could act on it, the next one must not survive what it did not.
            self._storage.set_trial_system_attr(trial_id, PRUNED_AT, self.last_step)
        return prune

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
