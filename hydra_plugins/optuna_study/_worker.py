"""A worker: one process that claims trials, runs them and reports their results until the study is complete."""

import gc
import logging
import os
import random
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ._budget import FAILURE, JOB_DIR, first_number, is_interrupted
from ._directories import reserve_directory
from ._heartbeat import Heartbeat, Stopped, WorkerId
from ._job import TrialJob, error_of
from ._launch import WorkerSpec, ends_process, is_time_limit
from ._monitoring._handle import StudyHandle
from ._monitoring._lines import print_line
from ._optuna import build_pruner, build_sampler, finish, id_of, provide_trials, read_objectives, samples_one_at_a_time
from ._queue import Claim, TrialQueue
from ._redaction import one_line
from ._running_trial import RunningTrial
from ._schedulers._pausing import build_scheduler
from ._search_space._custom import add_custom_parameters
from ._search_space._space import Suggestion
from ._status import trial_row
from ._storage import Storage
from ._storage_wrappers import TrialCache, is_storage_error
from ._study import Callbacks, final_status, finalize, write_results
from ._trial import StudyError, TrialInterrupted, TrialLost, TrialPaused, TrialPruned, rank_environment

log = logging.getLogger("hydra_plugins.optuna_study")

# Seconds that a worker without a trial sleeps before it looks again.
_IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerResult:
    """What a worker did, returned through its launcher; `signum` is the signal that ended it."""

    worker: int
    trials: int
    pid: int
    signum: int | None = None


class Worker:
    """The task function that launchers get in place of the application's own.

    The job number that its launcher gives it is its index within the launch.

    Args:
        config: the command's config, redacted.
        storage: an open storage, for a worker in the command's own process; it is not pickled.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        storage: Storage | None = None,
    ) -> None:
        self.spec = spec
        self.context = context
        self.task_function = task_function
        self.config = config
        self.storage = storage

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "storage": None}

    def __call__(self, cfg: DictConfig) -> WorkerResult:  # noqa: ARG002 - its own job's config; trials have theirs
        index = self.spec.first_worker + int(HydraConfig.get().job.num)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = self.storage
        if storage is None:
            storage = Storage(self.spec.settings.storage, self.spec.settings.storage_retry_minutes, retry_opening=True)
        try:
            return _Loop(self, storage, index).run()
        finally:
            if self.storage is None:
                storage.close()


class _Loop:
    """The loop of one worker: claim a trial, run it, report its result."""

    def __init__(self, worker: Worker, storage: Storage, index: int) -> None:
        spec, settings = worker.spec, worker.spec.settings
        self.spec = spec
        self.settings = settings
        self.index = index
        self.storage = storage
        self.config = worker.config
        self.worker_id = WorkerId.of_this_process(spec.launch_id, index, settings.heartbeat)
        self.scheduler = build_scheduler(settings.scheduler)
        self.queue = TrialQueue(
            storage,
            spec.study_name,
            spec.budget,
            self.worker_id,
            scheduler=self.scheduler,
            reported_objective=settings.pruned_objective,
        )
        self.cache: Any = TrialCache(storage.optuna)
        self.study = optuna.load_study(
            study_name=spec.study_name,
            storage=self.cache,
            sampler=build_sampler(settings.sampler, spec.space, index),
            pruner=build_pruner(settings.pruner, self.queue.trials()),
        )
        # Samplers call this when they have tried everything; outside of Optuna's own loop it would raise.
        self.study.stop = self.queue.mark_exhausted  # type: ignore[method-assign]
        self.handle = StudyHandle(storage, spec.study_name, settings.directions, spec.sweep_dir)
        self.callbacks = Callbacks(settings.callbacks, settings.storage.secrets)
        self.job = TrialJob(worker.context, worker.task_function, worker.config, settings.storage, ends_process)
        self.in_own_process = worker.storage is None
        self.parent = os.getppid()
        self.heartbeat = Heartbeat(
            storage.optuna, settings.heartbeat, enabled=settings.storage.kind != "memory", forwarded=self.in_own_process
        )
        self.sampling_needs_lock = samples_one_at_a_time(settings.sampler)
        # The trial whose values were sampled while it was claimed, or what the sampler raised.
        self.sampled: optuna.Trial | BaseException | None = None
        self.done = 0

    def run(self) -> WorkerResult:
        deadline = None if self.settings.timeout is None else time.monotonic() + self.settings.timeout
        registered = self.worker_id.registered(self.spec.workers_folder) if self.in_own_process else nullcontext()
        with self.heartbeat.running(), registered:
            try:
                while not self._command_is_gone():
                    self.heartbeat.raise_if_stopped()
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    claimed = self.queue.claim(self._sample_with_lock if self.sampling_needs_lock else None)
                    for ended in self.queue.pop_ended():
                        self.callbacks.trial_finished(self.handle, trial_row(ended))
                    if claimed is Claim.DONE:
                        break
                    if isinstance(claimed, int):
                        with self.worker_id.busy(self.spec.workers_folder) if self.in_own_process else nullcontext():
                            self._run_trial(claimed)
                        self.done += 1
                    else:
                        self.heartbeat.sleep(_IDLE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
            except Stopped as stopped:
                self.queue.release_own(f"stopped by {stopped}")
                return WorkerResult(self.index, self.done, os.getpid(), stopped.signum)
            except Exception as error:
                # After a signal, an error must not look like a worker that may be started again.
                if self.heartbeat.signum is None:
                    raise
                log.warning("stopped by a signal, then failed: %s", one_line(error, self.settings.storage.secrets))
                return WorkerResult(self.index, self.done, os.getpid(), self.heartbeat.signum)
        if self.spec.detached:
            progress = self.queue.progress()
            if progress.is_over:
                status = final_status(self.queue, progress)
                write_results(status, self.spec.sweep_dir)
                finalize(self.queue, self.callbacks, self.handle, status)
        return WorkerResult(self.index, self.done, os.getpid())

    def _command_is_gone(self) -> bool:
        """Whether the command that this worker must not outlive has ended."""
        command = self.spec.command
        if command is None or command.host_id != self.worker_id.host_id:
            return False
        is_orphan = self.parent == command.pid and os.getppid() != self.parent
        return is_orphan or (self.spec.ends_with_command and command.has_exited())

    # ---- one trial

    def _run_trial(self, trial_id: int) -> None:
        """Run a claimed trial until it has ended, in whatever way."""
        try:
            with self.heartbeat.for_trial(trial_id):
                self._run_attempt(trial_id)
        except UpdateFinishedTrialError:
            log.warning("this worker was declared dead and its trial requeued; the result of this attempt is dropped")
        except StudyError:
            self.queue.release(trial_id, "its worker could not run it")
            raise
        except BaseException as error:
            # Stopped, but also SystemExit (submitit before a timeout) and KeyboardInterrupt.
            self.queue.release(trial_id, f"stopped by {one_line(error)}")
            raise

    def _run_attempt(self, trial_id: int) -> None:
        """Sample values, compose the config, run the task and store its result.

        An error of the sampler, of the custom search space, of the composition or of the job directory fails the
        trial: another attempt would end in the same way.
        """
        trial: optuna.Trial | None = None
        try:
            sampled, self.sampled = self.sampled, None
            if isinstance(sampled, BaseException):
                raise sampled
            trial = sampled or self._sample(trial_id)
            frozen = self.cache.get_trial(trial_id)
            suggestion = self.spec.space.suggest(trial)
            if (function := self.settings.custom_search_space) is not None:
                suggestion = add_custom_parameters(function, self.config, self.spec.space, trial, suggestion)
            result = self._run_job(trial, frozen, suggestion)
        except BaseException as error:  # SystemExit, too: it must not end other trials
            if _ends_worker(error):
                raise
            self._fail(trial or trial_id, one_line(error, self.settings.storage.secrets))
            return
        self._store_result(trial, result)

    def _sample_with_lock(self, trial_id: int) -> None:
        try:
            self.sampled = self._sample(trial_id)
        except BaseException as error:
            if _ends_worker(error):
                raise
            self.sampled = error

    def _sample(self, trial_id: int) -> optuna.Trial:
        claimed, seen = self.queue.claimed, self.queue.seen
        assert claimed is not None
        self.cache.cache(claimed, self.queue.tally.number_without_retries(claimed))
        provide_trials(self.study, self.cache.merge(seen))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.Trial(self.study, trial_id)
            self.spec.space.suggest(trial)
        return trial

    def _run_job(self, trial: optuna.Trial, frozen: FrozenTrial, suggestion: Suggestion) -> JobReturn:
        if self.queue.claimed is not None:
            frozen.number = self.queue.claimed.number  # as in the storage; samplers and pruners see another one
        fixed, number = self.spec.space.fixed, first_number(frozen)

        def store(directory: str) -> None:
            trial.set_user_attr(JOB_DIR, directory)

        def reserve(wanted: str) -> str:
            if self.spec.has_numbered_directories:
                store(wanted)
                return wanted
            directory, is_first = reserve_directory(self.queue, number, wanted, store)
            if is_first:
                print_line(f"trial {number} has the same overrides as an earlier trial; its directory is {directory}")
            return directory

        config, directory = self.job.compose(
            fixed, suggestion.overrides, number, frozen.user_attrs.get(JOB_DIR), reserve
        )
        running = RunningTrial(
            self.study,
            self.cache,
            trial,
            frozen,
            self.heartbeat,
            params=suggestion.params,
            directory=directory,
            study_attrs=self.handle.user_attrs,
            pruned_objective=self.settings.pruned_objective,
            scheduler=self.scheduler,
            curves=self.queue.paused.curves,
            limit=self.spec.budget.limit,
        )
        running.catch_up()
        with rank_environment(running, (*fixed, *suggestion.overrides), self.spec.argv, self.spec.main):
            return self.job.run(config)

    # ---- its result

    def _store_result(self, trial: optuna.Trial, result: JobReturn) -> None:
        error = error_of(result)
        if isinstance(error, TrialLost) or self.heartbeat.lost:
            raise UpdateFinishedTrialError
        if isinstance(error, TrialPaused) and self.scheduler is not None:
            self.queue.paused.pause(id_of(trial))
        elif isinstance(error, TrialInterrupted):
            self.queue.release(id_of(trial), one_line(error))
            self.heartbeat.raise_if_stopped()
        elif error is not None and is_time_limit(error):
            raise error  # the worker ends, and the trial is released
        elif isinstance(error, TrialPaused | TrialPruned | optuna.TrialPruned):
            self._end(trial, TrialState.PRUNED)
        elif error is not None:
            self._fail(trial, one_line(error, self.settings.storage.secrets))
        else:
            values, problem = read_objectives(result.return_value, len(self.settings.directions))
            if problem is not None:
                self._fail(trial, problem)
            else:
                self._end(trial, TrialState.COMPLETE, values)

    def _fail(self, trial: optuna.Trial | int, reason: str) -> None:
        """Let the trial fail; it is given by its id if the sampler failed before there was a trial object."""
        if isinstance(trial, int):
            self.storage.optuna.set_trial_user_attr(trial, FAILURE, reason)
            self.storage.optuna.set_trial_state_values(trial, TrialState.FAIL)
            self._call_finished(trial)
        else:
            trial.set_user_attr(FAILURE, reason)
            self._end(trial, TrialState.FAIL)
        # The traceback held the frames of the task, and with them perhaps all memory of a GPU.
        gc.collect()

    def _end(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None = None) -> None:
        trial_id = id_of(trial)
        try:
            with self.queue.finishing(trial_id), self.storage.exclusive():
                finish(self.study, trial, state, values)
        except Exception as error:
            if is_storage_error(error):
                raise
            # Either the trial was requeued; or a first, successful attempt lost its answer; or the trial has ended and
            # its sampler failed afterwards, for example in a constraints_func.
            ended = self.storage.optuna.get_trial(trial_id)
            if ended.state != state or is_interrupted(ended) or (values is not None and ended.values != list(values)):
                if not isinstance(error, UpdateFinishedTrialError | ValueError):
                    raise
                raise UpdateFinishedTrialError from None
            if not isinstance(error, UpdateFinishedTrialError):
                reason = one_line(error, self.settings.storage.secrets)
                log.warning("trial %d has ended, but its sampler failed: %s", first_number(ended), reason)
        self._call_finished(trial_id)

    def _call_finished(self, trial_id: int) -> None:
        if self.callbacks.follow_trials:
            self.callbacks.trial_finished(self.handle, trial_row(self.storage.optuna.get_trial(trial_id)))


def _ends_worker(error: BaseException) -> bool:
    """Whether an error concerns more than one trial: a signal, a mistake of the user, the storage, or a lost trial."""
    concerns_all = isinstance(error, StudyError | UpdateFinishedTrialError) or is_storage_error(error)
    return concerns_all or ends_process(error) or is_time_limit(error)
