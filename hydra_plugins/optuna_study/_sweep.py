"""The command's side of a sweep: it opens the study, starts workers, monitors them, and ends the study once."""

import math
import platform
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ._budget import signs_of_progress
from ._directories import save_multirun
from ._heartbeat import Heartbeat, Stopped, WorkerId
from ._history._ended_lines import EndedLines
from ._job import as_hydra_config
from ._kubernetes._submission import is_kubernetes, submit_job
from ._launch import Launch, LaunchResult, WorkerSpec, is_in_process, is_submitit, launcher_name, workers_are_children
from ._monitoring._handle import StudyHandle
from ._monitoring._lines import print_line, summary
from ._monitoring._live import LiveStudy, RunningRows, has_terminal
from ._monitoring._signals import SignalForwarder, stop_local_workers
from ._planning._planner import Planner
from ._queue import TrialQueue
from ._redaction import one_line
from ._schedulers._pausing import PausedLines, build_scheduler
from ._search_space._common_settings import warn_of_other_settings
from ._settings._reading import Settings
from ._settings._validation import Validation
from ._status import StudyStatus, TrialRow, status_of, trial_row
from ._storage import Storage
from ._storage_wrappers import is_storage_error, outages_of
from ._study import Callbacks, final_status, finalize, next_worker, open_study, write_results
from ._trial import StudyError

# Launches in a row without any progress after which the command gives up.
_FRUITLESS_LAUNCHES = 3
# Seconds between two looks at the study, and looks between two searches for dead workers.
_LOOK_SECONDS = 0.5
_LOOKS_PER_REQUEUE = 4


class Sweep:
    """One call of the sweep command.

    Args:
        context: Hydra's context.
        task_function: the application's task.
        config: the command's config.
    """

    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config

    def run(self, arguments: list[str]) -> StudyStatus | None:
        """Check everything, then run the study until it is complete or stops.

        With `plan=true` it only prints the plan; with the launcher `kubernetes` it submits the workers.
        """
        # It handles signals from the first check to the last line, so that none is lost between two launches.
        self.heartbeat = Heartbeat(None, interval=60.0, enabled=False)
        try:
            with self.heartbeat.running():
                return self._run(arguments)
        except Stopped as stopped:
            print_line(f"stopped by {stopped}; run the same command again to continue the study")
            raise SystemExit(128 + stopped.signum) from None

    def _run(self, arguments: list[str]) -> StudyStatus | None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Not any longer: launchers pickle HydraConfig, and this one may contain passwords.
        with as_hydra_config(self.config):
            validation = Validation(self.context, self.config)
            settings = validation.settings()
            space = validation.space(settings, arguments)
            examples = validation.examples(settings, space)
            spec = validation.worker_spec(settings, space)
        planner = Planner(self.context.config_loader, self.config, spec)
        if settings.plan:
            planner.show()
            return None
        if is_kubernetes(self.config):
            submit_job(self.config, spec)
            return None
        storage = Storage(settings.storage, settings.storage_retry_minutes)
        try:
            open_study(storage, spec, settings, planner.enqueued(storage))
            warn_of_other_settings(storage, spec.study_name, settings, validation.composed)
            worker_id = WorkerId.of_this_process(spec.launch_id, -1, settings.heartbeat)
            queue = TrialQueue(
                storage,
                spec.study_name,
                spec.budget,
                worker_id,
                scheduler=build_scheduler(settings.scheduler),
                reported_objective=settings.pruned_objective,
            )
            self.heartbeat.on_signal = queue.note_stop_signal
            save_multirun(self.config, settings.storage, spec.sweep_dir)
            return self._complete(storage, spec, settings, queue, [*space.fixed, *examples[0]])
        except (StudyError, SystemExit):
            raise
        except Exception as error:
            if is_storage_error(error) or type(error).__module__.startswith("optuna.exceptions"):
                # "from None": SQLAlchemy's own message may show the URL.
                text = one_line(error.__cause__ or error, settings.storage.secrets)
                raise StudyError(f"storage {settings.storage.shown} failed: {text}") from None
            raise
        finally:
            storage.close()

    def _complete(
        self, storage: Storage, spec: WorkerSpec, settings: Settings, queue: TrialQueue, example: list[str]
    ) -> StudyStatus:
        handle = StudyHandle(storage, spec.study_name, settings.directions, spec.sweep_dir)
        callbacks = Callbacks(settings.callbacks, settings.storage.secrets)
        progress = queue.progress()
        if not progress.complete:
            launcher = launcher_name(self.config)
            workers = 1 if launcher == "basic" else settings.n_jobs
            print_line(
                f"study '{spec.study_name}' in {settings.storage.shown}: {progress.counts.finished} "
                f"{spec.budget.text}, {workers} worker(s) through {launcher} on {platform.node()}"
            )
            callbacks.study_start(handle)
            launch = Launch(self.context, self.task_function, self.config, example)
            if not settings.wait:
                first = next_worker(storage, spec.study_name, settings.n_jobs)
                spec = replace(spec, first_worker=first)
                submitted = launch.start_workers(spec, settings.n_jobs, storage, wait=False)
                print_line(f"submitted {len(submitted.jobs)} workers: {' '.join(submitted.jobs)}")
                return status_of(storage, spec.study_name)
            with StudyMonitor(
                queue,
                settings.directions,
                lambda row: callbacks.trial_finished(handle, row),
                SignalForwarder(queue, self.heartbeat, spec.workers_folder),
            ):
                self._run_workers(storage, spec, settings, queue, launch)
            progress = queue.progress()
        status = final_status(queue, progress)
        for line in summary(status, progress):
            print_line(line)
        if not progress.is_over:
            print_line(f"time is up ({settings.timeout:g} s); run the same command again to continue the study")
        written = write_results(status, spec.sweep_dir)
        if written is not None:
            print_line(f"results: {written}")
        if progress.is_over:
            finalize(queue, callbacks, handle, status)
        if status.aborted:
            reasons = [row.reason for row in status.failures if row.reason] or ["no trial finished"]
            raise SystemExit(1) from StudyError(f"study '{spec.study_name}' ended because trials failed: {reasons[-1]}")
        return status

    def _run_workers(
        self, storage: Storage, spec: WorkerSpec, settings: Settings, queue: TrialQueue, launch: Launch
    ) -> None:
        """Start workers, and new ones for those that died, until the study is over or the time is up."""
        workers = 1 if is_in_process(self.config) else settings.n_jobs
        fruitless, deadline = 0, None if settings.timeout is None else time.monotonic() + settings.timeout
        while True:
            before = signs_of_progress(queue.trials())
            spec = replace(spec, first_worker=next_worker(storage, spec.study_name, workers))
            result = self._launch(launch, spec, workers, storage, queue)
            if isinstance(result.error, StudyError):
                raise result.error
            with storage.lock(spec.study_name):
                queue.requeue_stale()
            if queue.progress().is_over or (deadline is not None and time.monotonic() >= deadline):
                return
            reason = result.failure or "unknown reason"
            if signs_of_progress(queue.trials()) != before:
                fruitless = 0
            elif not result.killed_externally:
                fruitless += 1
                if fruitless >= _FRUITLESS_LAUNCHES:
                    raise StudyError(
                        f"workers of study '{spec.study_name}' ended {fruitless} times without progress: {reason}"
                    )
            print_line(f"workers ended early ({reason}); starting new ones")

    def _launch(
        self, launch: Launch, spec: WorkerSpec, workers: int, storage: Storage, queue: TrialQueue
    ) -> LaunchResult:
        """Start workers and wait until all have ended.

        Raises:
            Stopped: a signal arrived. The workers on this machine were asked to stop, too, and have ended.
        """
        children = workers_are_children(self.config)
        if children:
            # joblib kills its workers if the wait is interrupted. So the monitor forwards the signal, and the wait ends
            # when the workers have written their checkpoints. A second signal interrupts it.
            self.heartbeat.defer_stop(math.inf)
        try:
            result = launch.start_workers(spec, workers, storage, wait=True)
        except (Stopped, KeyboardInterrupt) as stopped:
            # A task that handles Ctrl-C itself raises the latter.
            signum = stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT
            if is_submitit(self.config) and not children:
                print_line("the submitted jobs continue; scancel stops them")
            elif not is_in_process(self.config):
                stop_local_workers(queue, signum)
            raise Stopped(signum) from None
        finally:
            self.heartbeat.defer_stop(None)
        self.heartbeat.raise_if_stopped()
        if result.signum is not None:
            raise Stopped(result.signum)
        return result


class StudyMonitor:
    """A thread of the command that prints each trial once when it ends, and requeues trials of dead workers.

    In a terminal it also shows the running trials.

    Args:
        queue: the command's queue.
        directions: minimize or maximize for each objective.
        on_failed: called with each trial that failed because its workers died too often.
        at_each_look: called twice a second.
    """

    def __init__(
        self,
        queue: TrialQueue,
        directions: tuple[str, ...],
        on_failed: Callable[[TrialRow], None],
        at_each_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue = queue
        self.on_failed = on_failed
        self.at_each_look = at_each_look
        # The error of the last look; None after a look that succeeded.
        self.failure: Exception | None = None
        trials = queue.trials()
        self._print_paused = PausedLines(trials)
        self._live = LiveStudy() if has_terminal() else None
        self._running = RunningRows()
        self._print_ended = EndedLines(trials, directions, queue.budget.n_trials, with_state=self._live is None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optuna-study-monitor", daemon=True)

    def __enter__(self) -> "StudyMonitor":
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        try:
            self.look()
            if self.failure is not None:
                # Once more, where an error is raised: no other process may be left to requeue these trials.
                self._requeue_stale()
        except Exception:
            # The reason why the sweep ended is more important than that the storage is still unreachable.
            if kind is None:
                raise
        finally:
            if self._live is not None:
                self._live.stop()

    def _run(self) -> None:
        outages, looks = outages_of(self.queue.storage), 0
        due = time.monotonic() + _LOOK_SECONDS
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            outages.add_oversleep(due)
            looks += 1
            self.at_each_look()
            try:
                self.look()
                if looks % _LOOKS_PER_REQUEUE == 0:
                    self._requeue_stale()
                    self.failure = None
            except Exception as error:
                if self.failure is None:
                    reason = one_line(error, self.queue.shared.spec.secrets)
                    print_line(f"the command cannot monitor its trials ({reason}); the workers continue")
                self.failure = error
            due = time.monotonic() + _LOOK_SECONDS

    def _requeue_stale(self) -> None:
        with self.queue.shared.lock(self.queue.study_name):
            self.queue.requeue_stale()
        for trial in self.queue.pop_ended():
            self.on_failed(trial_row(trial))

    def look(self) -> None:
        """Print the trials that have ended since the last look."""
        trials = self.queue.trials()
        self._print_paused(self.queue.tally.paused())
        self._print_ended(trials)
        if self._live is not None:
            self._live.update(self._running(trials), ", ".join([*self._print_ended.state(), *self._open_trials()]))

    def _open_trials(self) -> list[str]:
        counts = self.queue.tally.counts()
        names = ("running", "paused", "waiting", "failed")
        return [f"{getattr(counts, name)} {name}" for name in names if getattr(counts, name)]
