"""The running trial in the process where the worker runs its task: reports, pruning and pausing."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from ._budget import (
    MAX_RESOURCE,
    PRUNED_AT,
    SECONDS,
    STANDARD_ERROR,
    STEPS,
    attempt_of,
    first_number,
    reports_of,
    seconds_of,
)
from ._heartbeat import Heartbeat
from ._optuna import has_rungs, id_of, should_prune
from ._schedulers import Curve, Scheduler
from ._schedulers._pausing import Curves, ledger_of
from ._schedulers._spending import Limit
from ._trial import TrialHandle, TrialLost


class RunningTrial(TrialHandle):
    """The trial of rank zero: reports go to the storage, and the study's pruner decides.

    Args:
        trial: Optuna's trial, with all its values suggested.
        frozen: the same trial as stored.
        heartbeat: knows whether the worker was asked to stop and whether the trial was lost.
        pruned_objective: index of the objective whose values the task reports.
        scheduler: decides whether the trial pauses, or None.
        curves: `curves_of` all trials, or what follows them from read to read.
        limit: what all trials of the study may spend, or None.
        clock: seconds that only grow; a replay passes simulated ones.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Any,
        trial: optuna.Trial,
        frozen: FrozenTrial,
        heartbeat: Heartbeat,
        *,
        params: Mapping[str, Any],
        directory: str,
        study_attrs: Mapping[str, Any],
        pruned_objective: int,
        scheduler: Scheduler | None = None,
        curves: Callable[[Sequence[FrozenTrial]], Sequence[Curve]] | None = None,
        limit: Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
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
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._storage = storage
        self._trial = trial
        self._trial_id = id_of(trial)
        self._heartbeat = heartbeat
        self._pruned_objective = pruned_objective
        self._scheduler = scheduler
        self._curves = curves or Curves(study.directions[pruned_objective].name == "MAXIMIZE")
        self._limit = limit
        # Whether the task can pause; one that never asks is pruned instead.
        self._can_pause = False
        self._clock = clock
        self._last_report = clock()
        self._seconds = seconds_of(frozen)
        # Whether an earlier attempt was to be pruned and ended before it could act on it.
        pruned_at = frozen.system_attrs.get(PRUNED_AT)
        self._already_pruned = pruned_at is not None and pruned_at == self.last_step
        # Whether the last report repeated a step about which an earlier attempt has asked the pruner.
        self._repeats = False

    @property
    def interrupted(self) -> bool:
        return self._heartbeat.stop_requested

    def report(self, value: float, step: int) -> None:

        value, step = float(value), int(step)
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        with self._writing():
            self._repeats = step in self.reported and step != self.last_step
            if step in self.reported or self._already_pruned:
                return
            self.reported[step] = value
            self._store_seconds(step)
            if len(self._study.directions) == 1:
                self._storage.set_trial_intermediate_value(self._trial_id, step, value)
            else:
                # JSON has neither NaN nor infinity, which pruners look for: they are stored as text.
                stored = {str(s): v if math.isfinite(v) else str(v) for s, v in self.reported.items()}
                self._storage.set_trial_system_attr(self._trial_id, STEPS, stored)

    def should_prune(self) -> bool:
        with self._writing():
            if self._already_pruned:
                return True
            if not self.reported or self._repeats:
                return False
            return self._ask_pruner() or (not self._can_pause and self._ask_scheduler("should_prune"))

    def should_pause(self) -> bool:
        self._can_pause = True
        with self._writing():
            return bool(self.reported) and not self._repeats and self._ask_scheduler("should_pause")

    def _ask_scheduler(self, question: str) -> bool:
        if self._scheduler is None:
            return False

        # From the storage itself: in the worker's view of it, paused trials look like pruned ones to samplers.
        stored = self._storage.inner.get_all_trials(self._study_id, deepcopy=False)
        curves = self._curves(stored)
        own = next(curve for curve in curves if curve.number == self.number)
        if self._limit is not None:
            ledger = ledger_of(self._limit, stored, curves, can_pause=True, deciding=self.number)
            if not ledger.knows_length(self.number):
                return False  # the first trial shows what a whole training costs
            if not ledger.may_continue(self.number):
                return True
        return bool(getattr(self._scheduler, question)(own, curves))

    def _store_seconds(self, step: int) -> None:
        """Store how long the training took up to this step; schedulers and the budget price further steps by it."""
        if self._scheduler is None and self._limit is None:
            return

        now = self._clock()
        self._seconds[step] = max(self._seconds.values(), default=0.0) + now - self._last_report
        self._last_report = now
        stored = {str(s): round(value, 3) for s, value in self._seconds.items()}
        self._storage.set_trial_system_attr(self._trial_id, SECONDS, stored)

    def catch_up(self) -> None:
        """Ask the pruner about the last report of an earlier attempt, which may have ended before it asked.

        Only pruners that store their decisions are asked: for them, asking twice about a step changes nothing.
        """

        if self.is_retry and self.reported and not self._already_pruned and has_rungs(self._study.pruner):
            self._already_pruned = self._ask_pruner()

    def _ask_pruner(self) -> bool:

        trial = self._storage.get_trial(self._trial_id)
        prune = should_prune(self._study, self._storage, trial, self._pruned_objective)
        if prune:
            # If this attempt ends before it acts on it, the next one must be pruned, too.
            self._storage.set_trial_system_attr(self._trial_id, PRUNED_AT, self.last_step)
        return prune

    def set_max_resource(self, max_resource: int) -> None:
        if self._scheduler is None and self._limit is None:
            return  # nobody asks
        with self._writing():
            self._storage.set_trial_system_attr(self._trial_id, MAX_RESOURCE, max_resource)

    def set_standard_error(self, standard_error: float) -> None:
        if not standard_error >= 0:  # true for NaN, too
            raise ValueError(f"standard_error must be 0 or more, got {standard_error}")
        with self._writing():
            self._storage.set_trial_system_attr(self._trial_id, STANDARD_ERROR, float(standard_error))

    def set_user_attr(self, key: str, value: Any) -> None:
        with self._writing():
            self._trial.set_user_attr(key, value)
        self.user_attrs[key] = value

    def defer_interrupt(self, seconds: float = 20.0) -> None:
        self._heartbeat.defer_stop(seconds)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise TrialLost if the trial is no longer this worker's, before the block or because its write is refused."""

        try:
            if self._heartbeat.lost:
                raise UpdateFinishedTrialError
            yield
        except UpdateFinishedTrialError:
            self._heartbeat.lost = True
            raise TrialLost(f"trial {self.number} was declared dead and requeued for another worker") from None
