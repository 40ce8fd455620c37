"""A worker: one process that claims, runs and tells trials until the study has them all."""

import copy
import gc
import logging
import os
import random
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study._tell import _tell_with_warning
from optuna.trial import TrialState

from ._attrs import FAILURE, JOB_DIR
from ._budget import first_number, is_interrupted
from ._ending import end_once, ended_status
from ._errors import StudyError, TrialInterrupted, TrialLost, TrialPruned
from ._grammar import value_text
from ._hooks import Hooks
from ._job import TrialJob, failure_of
from ._ledger import Ledger, Next
from ._objective import read_objective
from ._own_trial import OWN_TRIAL
from ._owner import Owner
from ._plan import Plan
from ._ranks import announced
from ._results import write_results
from ._running import RunningTrial
from ._samplers import build_pruner, build_sampler, draws_together
from ._secrets import hide_override, one_line
from ._space import Draw
from ._status import trial_row
from ._store import Store
from ._study import StudyHandle
from ._uninterrupted import place_of, uninterrupted
from ._vigil import Stopped, Vigil

log = logging.getLogger("hydra_plugins.optuna_study")

# How long a worker without a trial sleeps before it looks again.
_IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class Shift:
    """What a worker did; its launcher carries it back. `signum` is the signal that ended it."""

    worker: int
    trials: int
    pid: int
    signum: int | None = None


class Worker:
    """The task function that launchers are given in place of the application's own.

    Its index within the launch is the number its launcher gives it as a job.

    Args:
    store: an open store, for a worker in the command's own process; it is not pickled.
    """

    def __init__(
        self,
        plan: Plan,
        context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        store: Store | None = None,
    ) -> None:
        self.plan = plan
        self.context = context
        self.task_function = task_function
        self.config = config
        self.store = store

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "store": None}

    def __call__(self, cfg: DictConfig) -> Shift:  # noqa: ARG002 - what it works on is not its own job's config
        from hydra.core.hydra_config import HydraConfig

        index = int(HydraConfig.get().job.num)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        store = self.store or Store(self.plan.storage, self.plan.storage_patience, wait=True)
        try:
            return _Shift(self, store, self.plan.first_worker + index).work()
        finally:
            if self.store is None:
                store.close()


class _Shift:
    """One worker at work."""

    def __init__(self, worker: Worker, store: Store, index: int) -> None:
        plan = worker.plan
        self.plan = plan
        self.index = index
        self.store = store
        self.owner = Owner.here(plan.launch, index, plan.heartbeat)
        self.ledger = Ledger(store, plan.study_name, plan.rules, self.owner)
        self.own: Any = OWN_TRIAL(store.storage)
        self.study = optuna.load_study(
            study_name=plan.study_name,
            storage=self.own,
            sampler=build_sampler(plan.sampler, plan.space, index),
            pruner=build_pruner(plan.pruner, self.ledger.trials()),
        )
        # Samplers that have tried everything call this; outside of Optuna's own loop it would raise.
        self.study.stop = self.ledger.note_exhausted  # type: ignore[method-assign]
        self.handle = StudyHandle(store, plan.study_name, plan.directions, plan.sweep_dir)
        self.hooks = Hooks(plan.callbacks, plan.storage.secrets)
        self.job = TrialJob(worker.context, worker.task_function, worker.config, plan.storage)
        self.config = worker.config
        self.vigil = Vigil(store.storage, plan.heartbeat, beats=plan.storage.kind != "memory")
        self.together = draws_together(plan.sampler)
        self.prepared: optuna.Trial | None = None
        self.done = 0

    def work(self) -> Shift:
        deadline = None if self.plan.timeout is None else time.monotonic() + self.plan.timeout
        parent = os.getppid()
        # A process of this machine that the command itself started: without the command it would go on unseen.
        is_child = self.plan.command_pid == parent and self.plan.command_place == self.owner.place
        with self.vigil.kept():
            try:
                while not (is_child and os.getppid() != parent):
                    self.vigil.check()
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    claimed = self.ledger.claim(self._draw if self.together else None)
                    for buried in self.ledger.take_buried():
                        self.hooks.trial_finished(self.handle, trial_row(buried))
                    if claimed is Next.DONE:
                        break
                    if isinstance(claimed, int):
                        self._run(claimed)
                        self.done += 1
                    else:
                        self.vigil.wait(_IDLE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
            except Stopped as stopped:
                self.ledger.give_back_mine(f"stopped by {stopped}")
                return Shift(self.index, self.done, os.getpid(), stopped.signum)
        if self.plan.unattended:
            self._end_study()
        return Shift(self.index, self.done, os.getpid())

    def _end_study(self) -> None:
        """Where no command waits, the first worker that finds the study over ends it."""
        standing = self.ledger.standing()
        if standing.over:
            status = ended_status(self.ledger, standing)
            write_results(status, self.plan.sweep_dir)
            failed = end_once(self.ledger, self.hooks, self.handle, status)
            if failed is not None:
                raise StudyError(f"on_study_end failed, the same command calls it again: {failed}")

    def _draw(self, trial_id: int) -> None:
        self.prepared = self._drawn(trial_id)

    def _drawn(self, trial_id: int) -> optuna.Trial:
        claimed, seen = self.ledger.claimed, self.ledger.seen
        self.own.adopt(claimed, None if claimed is None else place_of(claimed, seen))
        # As a sampler would find them; it asks again by itself where a moment matters.
        self.study._thread_local.cached_all_trials = uninterrupted(seen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.Trial(self.study, trial_id)
            self.plan.space.suggest(trial)
        return trial

    def _run(self, trial_id: int) -> None:
        """Run one claimed trial to an end of whatever kind."""
        try:
            with self.vigil.over(trial_id):
                self._attempt(trial_id)
        except UpdateFinishedTrialError:
            log.warning("a trial was taken for dead and given to another worker; this attempt is dropped")
        except StudyError:
            self._give_back(trial_id, "its worker could not run it")
            raise
        except BaseException as error:
            # Stopped, but also SystemExit (submitit before a timeout) and KeyboardInterrupt.
            self._give_back(trial_id, f"stopped by {one_line(error)}")
            raise

    def _attempt(self, trial_id: int) -> None:
        trial, self.prepared = self.prepared or self._drawn(trial_id), None
        # As Optuna read it when the trial object was made, with what the draw added; asking the storage again costs
        # more than anything else here.
        frozen = copy.copy(trial._cached_frozen_trial)
        if self.ledger.claimed is not None:
            frozen.number = self.ledger.claimed.number  # in the storage, not as samplers and pruners know it
        try:
            draw = self._full_draw(trial)
            fixed, former = self.plan.space.fixed, frozen.user_attrs.get(JOB_DIR)
            config, directory = self.job.compose(fixed, draw.overrides, first_number(frozen), former)
        except (StudyError, UpdateFinishedTrialError):
            raise
        except Exception as error:  # a combination that cannot be composed fails as its trial
            self._fail(trial, one_line(error, self.plan.storage.secrets))
            return
        if former != directory:
            trial.set_user_attr(JOB_DIR, directory)
        running = RunningTrial(
            self.study,
            trial,
            frozen,
            self.vigil,
            params=draw.params,
            directory=directory,
            study_attrs=self.handle.user_attrs,
            pruned_objective=self.plan.pruned_objective,
        )
        running.catch_up()
        with announced(running, (*fixed, *draw.overrides), self.plan.argv, self.plan.main):
            result = self.job.run(config)
        self._tell(trial, result)

    def _full_draw(self, trial: optuna.Trial) -> Draw:
        """The space's draw and what the application's own hook adds."""
        draw = self.plan.space.suggest(trial)
        if self.plan.custom_search_space is None:
            return draw
        from hydra.utils import get_method

        before = set(trial.params)
        for line in self.plan.space.shared:
            # hydra-optuna-sweeper shows the hook the fixed values there.
            key, _, value = hide_override(line).partition("=")
            if key not in trial.user_attrs:
                trial.set_user_attr(key, value)
        get_method(self.plan.custom_search_space)(self.config, trial)
        added = {key: value for key, value in trial.params.items() if key not in before}
        fixed = {line.partition("=")[0] for line in self.plan.space.shared}
        if fixed & set(added):
            raise StudyError(
                f"custom_search_space must not suggest what is fixed, got {', '.join(sorted(fixed & set(added)))}"
            )
        lines = tuple(f"{key}={value_text(value)}" for key, value in added.items())
        return Draw(draw.overrides + lines, {**draw.params, **added})

    def _tell(self, trial: optuna.Trial, result: JobReturn) -> None:
        error = failure_of(result)
        if isinstance(error, TrialLost) or self.vigil.lost:
            raise UpdateFinishedTrialError
        if isinstance(error, TrialInterrupted):
            self._give_back(trial._trial_id, one_line(error))
            self.vigil.check()
            return
        if error is not None and _is_job_end(error):
            raise error  # and with it the worker; the trial is given back
        if isinstance(error, TrialPruned | optuna.TrialPruned):
            self._end(trial, TrialState.PRUNED)
        elif error is not None:
            self._fail(trial, one_line(error, self.plan.storage.secrets))
        else:
            values, wrong = read_objective(result.return_value, len(self.plan.directions))
            if wrong is not None:
                self._fail(trial, wrong)
            else:
                self._end(trial, TrialState.COMPLETE, values)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(FAILURE, reason)
        self._end(trial, TrialState.FAIL)
        # The traceback held the task's frames, and with them perhaps all of a GPU's memory.
        gc.collect()

    def _end(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None = None) -> None:
        try:
            with self.ledger.completing(trial._trial_id), self.store.exclusive(), warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # Study.tell without its last look at the trial, which only callbacks need.
                _tell_with_warning(self.study, trial, None if values is None else list(values), state)
        except Exception as error:
            # Either the trial was taken over, or the answer to an earlier, successful try was lost, or the trial ended
            # and its sampler could not take it in: a constraints_func of the user's that fails.
            ended = self.store.storage.get_trial(trial._trial_id)
            if ended.state != state or is_interrupted(ended) or (values is not None and ended.values != list(values)):
                if not isinstance(error, UpdateFinishedTrialError | ValueError):
                    raise
                raise UpdateFinishedTrialError from None
            if not isinstance(error, UpdateFinishedTrialError):
                said = one_line(error, self.plan.storage.secrets)
                log.warning("trial %d has ended, but its sampler failed: %s", first_number(ended), said)
        if self.hooks.follow_trials:
            self.hooks.trial_finished(self.handle, trial_row(self.store.storage.get_trial(trial._trial_id)))

    def _give_back(self, trial_id: int, reason: str) -> None:
        self.ledger.interrupt(trial_id, reason, counted=False)


def _is_job_end(error: BaseException) -> bool:
    """Whether submitit raised it in the middle of the task because its job is at its time limit for the last time."""
    kind = type(error)
    return kind.__name__ == "UncompletedJobError" and kind.__module__.startswith("submitit.")
