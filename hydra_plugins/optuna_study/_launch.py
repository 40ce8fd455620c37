"""Starts workers through Hydra's launcher, and waits for Slurm jobs by asking squeue.

This is the only module that depends on details of submitit: its job classes, the files of a job, and its errors.
`tests/unit/optuna_study/test_private_names.py` names the versions for which they hold.
"""

import copy
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ._budget import Budget
from ._heartbeat import Stopped, WorkerId
from ._job import error_of, without_callbacks
from ._redaction import one_line, redact_config
from ._search_space._space import Space
from ._storage import Storage
from ._trial import StudyError

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from ._settings._reading import Settings
    from ._worker import WorkerResult

# How joblib reports that a signal ended a worker from outside; a crash such as SIGSEGV would happen again.
_KILLED = re.compile(r"SIG(KILL|TERM|INT|HUP)\(-\d+\)")
_LAUNCHER_LOGS = (
    "hydra_plugins.hydra_joblib_launcher",
    "hydra_plugins.hydra_submitit_launcher",
    "hydra_plugins.hydra_ray_launcher",
    "hydra._internal.core_plugins.basic_launcher",
)
# Seconds until a result appears on a shared file system after its job has left the queue.
_RESULT_SECONDS = 15.0
_SHORTEST, _LONGEST = 1.0, 30.0  # seconds between two calls of squeue: few at first, more later
_SQUEUE = ("squeue", "--me", "--noheader", "--array", "--format=%i")


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know. Launchers pickle it, and some of them write it, so it contains no secret.

    Args:
        launch_id: random text that identifies this start of the command.
        has_numbered_directories: whether job directories contain the trial's number, so that no two trials share one.
        argv, main: the command line, for processes that a trial starts by repeating it (DDP).
        command: the process that started the workers.
        ends_with_command: whether the workers are processes of its machine that must not outlive it.
        first_worker: index of the first worker of this launch, over the whole life of the study.
    """

    study_name: str
    settings: "Settings"
    budget: Budget
    space: Space
    launch_id: str
    sweep_dir: str
    has_numbered_directories: bool
    argv: tuple[str, ...]
    main: str | None
    command: WorkerId
    ends_with_command: bool
    first_worker: int = 0

    @property
    def detached(self) -> bool:
        """Whether no command waits for the workers, so that one of them ends the study."""
        return not self.settings.wait

    @property
    def workers_folder(self) -> Path:
        """Folder of the workers' own job directories, in which they also register."""
        return Path(self.sweep_dir) / ".workers"


def launcher_name(config: DictConfig) -> str:
    """basic, joblib, submitit_slurm, submitit_local, ray, or the name of the launcher's class."""
    choices = config.hydra.runtime.choices
    chosen = choices.get("hydra/launcher") if choices is not None else None
    return str(chosen or config.hydra.launcher._target_.rpartition(".")[2])


def is_in_process(config: DictConfig) -> bool:
    return str(config.hydra.launcher._target_).endswith(".BasicLauncher")


def is_submitit(config: DictConfig) -> bool:
    return "submitit" in str(config.hydra.launcher._target_)


def workers_are_children(config: DictConfig) -> bool:
    """Whether all workers are processes of this machine, which the command stops when it stops."""
    target = str(config.hydra.launcher._target_)
    return target.endswith(".JoblibLauncher") or (is_submitit(config) and target.endswith(".LocalLauncher"))


def check_launcher(config: DictConfig) -> None:
    """Refuse a launcher that would start several processes for each worker.

    Raises:
        StudyError: nodes times tasks_per_node is not 1.
    """
    launcher = config.hydra.launcher
    tasks = int(launcher.get("tasks_per_node") or 1) * int(launcher.get("nodes") or 1)
    if tasks > 1:
        raise StudyError(
            f"a worker is one process, got {tasks} tasks (tasks_per_node x nodes of hydra.launcher); set both to 1, "
            "each trial starts its own ranks"
        )


@dataclass(frozen=True)
class LaunchResult:
    """How a launch ended.

    Args:
        results: what each worker did.
        failure: what the launcher reported when a worker died, in one line.
        error: an error that ended a worker.
        jobs: ids of submitted jobs for which the command does not wait.
        killed_externally: whether a signal or the cluster ended a worker, so that a new one may well succeed.
    """

    results: "Sequence[WorkerResult]" = ()
    failure: str | None = None
    error: BaseException | None = None
    jobs: tuple[str, ...] = ()
    killed_externally: bool = False

    @property
    def signum(self) -> int | None:
        """The signal that ended a worker in this very process, and therefore the command."""
        here = (result for result in self.results if result.pid == os.getpid())
        return next((result.signum for result in here if result.signum is not None), None)


class Launch:
    """Starts workers.

    Args:
        config: the command's config.
        example: task overrides with which the config composes; every worker needs a config, although it uses little
            of it.
    """

    def __init__(
        self, context: HydraContext, task_function: TaskFunction, config: DictConfig, example: Sequence[str]
    ) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config
        self.example = tuple(example)

    def start_workers(self, spec: WorkerSpec, number: int, storage: Storage, wait: bool) -> LaunchResult:
        """Start this many workers and wait for them, unless `wait` is false."""
        from ._worker import Worker

        config = copy.deepcopy(self.config)
        redact_config(config, spec.settings.storage)
        with read_write(config), open_dict(config):
            if OmegaConf.select(config, "hydra.launcher.n_jobs") is not None:
                # joblib's own limit must not let workers wait for one another, and with 1 it would run the worker in
                # the command's own process, whose death would then end both.
                config.hydra.launcher.n_jobs = max(number, 2)
        worker = Worker(spec, self.context, self.task_function, config, storage if is_in_process(config) else None)
        # Hydra's callbacks are for trials, not for the workers that run them.
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=without_callbacks(self.context), task_function=worker, config=config
        )
        overrides = [
            (
                *self.example,
                f"hydra.sweep.subdir={spec.workers_folder.name}/{spec.first_worker + index}",
                "hydra.output_subdir=null",
                # Each trial changes the directory itself, starting from the one of the command.
                "hydra.job.chdir=false",
            )
            for index in range(number)
        ]
        with _quiet_launchers():
            if not wait:
                with _without_waiting() as jobs:
                    launcher.launch(overrides, initial_job_idx=0)
                return LaunchResult(jobs=tuple(jobs))
            on_slurm = is_submitit(self.config) and str(self.config.hydra.launcher._target_).endswith(".SlurmLauncher")
            try:
                with _waiting_with_squeue() if on_slurm else nullcontext():
                    returns = launcher.launch(overrides, initial_job_idx=0)
            except StudyError:
                raise
            except Exception as error:  # each launcher reports in its own way that a worker died
                text = one_line(error, spec.settings.storage.secrets)
                return LaunchResult(failure=text, killed_externally=_KILLED.search(text) is not None)
        return _result_of(returns, spec)


def _result_of(returns: "Sequence[JobReturn | LostJob]", spec: WorkerSpec) -> LaunchResult:
    results: list[WorkerResult] = []
    error, failure, killed_externally = None, None, False
    for job in returns:
        if isinstance(job, LostJob):
            failure = failure or job.reason
            killed_externally = killed_externally or job.killed_externally
        elif (job_error := error_of(job)) is None:
            results.append(job.return_value)
        else:
            error = error or job_error
    signum = next((result.signum for result in results if result.signum is not None), None)
    if signum is not None:
        failure = f"stopped by {signal.Signals(signum).name}"
    if error is not None:
        failure = one_line(error, spec.settings.storage.secrets)
    return LaunchResult(results, failure, error, killed_externally=killed_externally or signum is not None)


@contextmanager
def _quiet_launchers() -> Iterator[None]:
    """Hide the launchers' lists of jobs, which are the workers here."""
    loggers = [logging.getLogger(name) for name in _LAUNCHER_LOGS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# ---- submitit


def ends_process(error: BaseException) -> bool:
    """Whether an exception of a task came from a signal, submitit's before a time limit included."""
    if isinstance(error, Stopped | KeyboardInterrupt):
        return True
    last = error.__traceback__ if isinstance(error, SystemExit) else None
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and str(last.tb_frame.f_globals.get("__name__", "")).startswith("submitit.")


def is_time_limit(error: BaseException) -> bool:
    """Whether submitit raised it in the middle of the task, because its job is at its time limit for the last time."""
    return type(error).__name__ == "UncompletedJobError" and type(error).__module__.startswith("submitit.")


@dataclass(frozen=True)
class LostJob:
    """Replaces the result of a job that ended without one; `killed_externally` is as in LaunchResult."""

    reason: str
    killed_externally: bool = False


@contextmanager
def _without_waiting() -> Iterator[list[str]]:
    """Let hydra-submitit-launcher return once its jobs are submitted. It has no setting for this."""
    import submitit

    jobs: list[str] = []

    def results(job: Any) -> list[None]:
        jobs.append(str(job.job_id))
        return [None]

    with _with_results(submitit.Job, results):
        yield jobs


@contextmanager
def _waiting_with_squeue() -> Iterator[None]:
    """Let Slurm jobs return their result or LostJob, and never wait for a job that is gone.

    submitit asks sacct alone. Without accounting, it would wait forever for a job that was killed. And a single job
    that died would end the wait for all others.
    """
    from submitit.slurm.slurm import SlurmJob

    read: Callable[[Any], list[Any]] = SlurmJob.results

    def results(job: Any) -> list[Any]:
        if not _wait_for_result(job):
            reason = f"Slurm job {job.job_id} ended without a result, its log is {job.paths.stderr}"
            return [LostJob(reason, killed_externally=_was_killed_externally(job.job_id))]
        try:
            return read(job)
        except Exception as error:  # what the job raised, as submitit reports it
            return [LostJob(f"Slurm job {job.job_id}: {one_line(error)}")]

    with _with_results(SlurmJob, results):
        yield


@contextmanager
def _with_results(job_class: Any, results: Callable[[Any], list[Any]]) -> Iterator[None]:
    former, job_class.results = job_class.results, results
    try:
        yield
    finally:
        job_class.results = former


def _wait_for_result(job: Any) -> bool:
    """Wait until the job has left a result or is gone for good; returns whether it left one."""
    begin = time.monotonic()
    asked, gone_since = begin, None
    while not job.paths.result_pickle.exists():
        time.sleep(0.5)
        folder = job.paths.folder
        with suppress(OSError):
            folder.chmod(folder.stat().st_mode)  # makes a network file system read the folder again
        now = time.monotonic()
        if gone_since is not None and now - gone_since > _RESULT_SECONDS:
            return False
        if now - asked > min(_LONGEST, max(_SHORTEST, (now - begin) / 20)):
            asked = now
            queue = _slurm(*_SQUEUE)
            if queue is not None:  # no answer says nothing about the jobs
                # A requeued job returns to the queue with its old number.
                gone_since = None if job.job_id in queue.split() else gone_since or now
    return True


def _was_killed_externally(job_id: str) -> bool:
    """Whether Slurm ended the job. Its controller remembers this for some minutes, even without accounting."""
    shown = _slurm("scontrol", "show", "job", job_id) or ""
    return re.search(r"\bJobState=(PREEMPTED|CANCELLED|TIMEOUT|NODE_FAIL|BOOT_FAIL)", shown) is not None


def _slurm(*command: str) -> str | None:
    """The output of a Slurm command, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
