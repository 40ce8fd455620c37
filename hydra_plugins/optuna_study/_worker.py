"""A worker: one process that claims, runs and tells trials until the study has them all."""

import copy
import gc
import logging
import os
import random
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study._tell import _tell_with_warning
from optuna.trial import FrozenTrial, TrialState

from ._attrs import FAILURE, JOB_DIR
from ._budget import first_number, is_interrupted
from ._console import say
from ._ending import end_once, ended_status
from ._errors import StudyError, TrialInterrupted, TrialLost, TrialPruned
from ._grammar import value_text
from ._hooks import Hooks
from ._job import TrialJob, as_hydra_config, failure_of
from ._ledger import Ledger, Next
from ._objective import read_objective
from ._own_trial import OWN_TRIAL
from ._owner import Owner
from ._patient import is_storage_error
from ._plan import WORKERS_FOLDER, Plan
from ._ranks import announced
from ._results import write_results
from ._run_job import ends_process
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
        # In a process of its own the command may forward its signal; in the command's own there is only one.
        self.is_own_process = worker.store is None
        self.folder = Path(plan.sweep_dir) / WORKERS_FOLDER
        self.parent = os.getppid()
        self.vigil = Vigil(
            store.storage, plan.heartbeat, beats=plan.storage.kind != "memory", forwarded=self.is_own_process
        )
        self.together = draws_together(plan.sampler)
        # The trial drawn while it was claimed, or what the sampler raised instead.
        self.prepared: optuna.Trial | BaseException | None = None
        self.done = 0

    def work(self) -> Shift:
        deadline = None if self.plan.timeout is None else time.monotonic() + self.plan.timeout
        registered = self.owner.registered(self.folder) if self.is_own_process else nullcontext()
        with self.vigil.kept(), registered:
            try:
                while not self._is_left_alone():
                    self.vigil.check()
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    claimed = self.ledger.claim(self._draw if self.together else None)
                    for buried in self.ledger.take_buried():
                        self.hooks.trial_finished(self.handle, trial_row(buried))
                    if claimed is Next.DONE:
                        break
                    if isinstance(claimed, int):
                        with self.owner.busy(self.folder) if self.is_own_process else nullcontext():
                            self._run(claimed)
                        self.done += 1
                    else:
                        self.vigil.wait(_IDLE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
            except Stopped as stopped:
                self.ledger.give_back_mine(f"stopped by {stopped}")
                return Shift(self.index, self.done, os.getpid(), stopped.signum)
            except Exception as error:
                # An error on the way out of a stop must not read as a worker that may be started again.
                if self.vigil.signum is None:
                    raise
                log.warning("stopped by a signal, and then: %s", one_line(error, self.plan.storage.secrets))
                return Shift(self.index, self.done, os.getpid(), self.vigil.signum)
        if self.plan.unattended:
            self._end_study()
        return Shift(self.index, self.done, os.getpid())

    def _is_left_alone(self) -> bool:
        """Whether the command that this worker must not outlive has gone: without it the worker would go on unseen."""
        command = self.plan.command
        if command is None or command.place != self.owner.place:
            return False
        is_orphan = self.parent == command.pid and os.getppid() != self.parent
        return is_orphan or (self.plan.ends_with_command and command.is_gone())

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
        try:
            self.prepared = self._drawn(trial_id)
        except BaseException as error:
            if _ends_worker(error):
                raise
            self.prepared = error

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
        """Draw, compose and run the trial.

        Whatever fails on the way, in the sampler, the application's own hook, the composition or the job directory,
        fails this trial: another attempt would end the same.
        """
        trial: optuna.Trial | None = None
        try:
            trial = self._trial(trial_id)
            # As Optuna read it when the trial object was made, with what the draw added; asking the storage again
            # costs more than anything else here.
            frozen = copy.copy(trial._cached_frozen_trial)
            if self.ledger.claimed is not None:
                frozen.number = self.ledger.claimed.number  # in the storage, not as samplers and pruners know it
            draw = self._full_draw(trial)
            result = self._job(trial, frozen, draw)
        except BaseException as error:  # sys.exit() fails no other trial either
            if _ends_worker(error):
                raise
            self._fail(trial or trial_id, one_line(error, self.plan.storage.secrets))
            return
        self._tell(trial, result)

    def _trial(self, trial_id: int) -> optuna.Trial:
        prepared, self.prepared = self.prepared, None
        if isinstance(prepared, BaseException):
            raise prepared
        return prepared or self._drawn(trial_id)

    def _job(self, trial: optuna.Trial, frozen: FrozenTrial, draw: Draw) -> JobReturn:
        fixed, former, number = self.plan.space.fixed, frozen.user_attrs.get(JOB_DIR), first_number(frozen)

        def store(directory: str) -> None:
            trial.set_user_attr(JOB_DIR, directory)

        def reserve(wanted: str) -> str:
            if self.plan.numbered_dirs:
                store(wanted)
                return wanted
            directory, is_first = self.ledger.reserve_directory(number, wanted, store)
            if is_first:
                say(f"trial {number} has the overrides of an earlier one, its directory is {directory}")
            return directory

        config, directory = self.job.compose(fixed, draw.overrides, number, former, reserve)
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
            return self.job.run(config)

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
        with as_hydra_config(self.config):
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

    def _fail(self, trial: optuna.Trial | int, reason: str) -> None:
        """Args:
        trial: or its id, where the sampler failed before there was a trial object to tell.
        """
        if isinstance(trial, int):
            self.store.storage.set_trial_user_attr(trial, FAILURE, reason)
            self.store.storage.set_trial_state_values(trial, TrialState.FAIL)
            self._ended(trial)
        else:
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
            if is_storage_error(error):
                raise
            # The trial was taken over, or the answer to an earlier, successful try was lost, or the trial ended and
            # its sampler could not take it in: a constraints_func of the user's that fails.
            ended = self.store.storage.get_trial(trial._trial_id)
            if ended.state != state or is_interrupted(ended) or (values is not None and ended.values != list(values)):
                if not isinstance(error, UpdateFinishedTrialError | ValueError):
                    raise
                raise UpdateFinishedTrialError from None
            if not isinstance(error, UpdateFinishedTrialError):
                said = one_line(error, self.plan.storage.secrets)
                log.warning("trial %d has ended, but its sampler failed: %s", first_number(ended), said)
        self._ended(trial._trial_id)

    def _ended(self, trial_id: int) -> None:
        if self.hooks.follow_trials:
            self.hooks.trial_finished(self.handle, trial_row(self.store.storage.get_trial(trial_id)))

    def _give_back(self, trial_id: int, reason: str) -> None:
        self.ledger.interrupt(trial_id, reason, counted=False)


def _ends_worker(error: BaseException) -> bool:
    """Whether it concerns more than one trial: a signal, a mistake of the user's, the storage, or the trial's loss."""
    of_all = isinstance(error, StudyError | UpdateFinishedTrialError) or is_storage_error(error)
    return of_all or ends_process(error) or _is_job_end(error)


def _is_job_end(error: BaseException) -> bool:
    """Whether submitit raised it in the middle of the task because its job is at its time limit for the last time."""
    kind = type(error)
    return kind.__name__ == "UncompletedJobError" and kind.__module__.startswith("submitit.")
