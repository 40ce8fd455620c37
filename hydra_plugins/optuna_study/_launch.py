"""Starting workers through whatever launcher Hydra was told to use."""

import copy
import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ._errors import StudyError
from ._job import failure_of, hide_all
from ._plan import WORKERS_FOLDER, Plan
from ._secrets import one_line
from ._slurm_wait import LostJob, watched
from ._store import Store
from ._worker import Shift, Worker

# How joblib tells that somebody else ended a worker: not a crash, such as SIGSEGV, which would come again.
_KILLED = re.compile(r"SIG(KILL|TERM|INT|HUP)\(-\d+\)")

_LAUNCHER_LOGS = (
    "hydra_plugins.hydra_joblib_launcher",
    "hydra_plugins.hydra_submitit_launcher",
    "hydra_plugins.hydra_ray_launcher",
    "hydra._internal.core_plugins.basic_launcher",
)


def launcher_name(config: DictConfig) -> str:
    """basic, joblib, submitit_slurm, submitit_local, ray, or what the launcher's class is called."""
    chosen = OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher")
    choices = config.hydra.runtime.choices
    chosen = choices.get("hydra/launcher") if choices is not None else chosen
    return str(chosen or config.hydra.launcher._target_.rpartition(".")[2])


def is_in_process(config: DictConfig) -> bool:
    return str(config.hydra.launcher._target_).endswith(".BasicLauncher")


def is_submitit(config: DictConfig) -> bool:
    return "submitit" in str(config.hydra.launcher._target_)


def workers_are_children(config: DictConfig) -> bool:
    """Whether all workers are processes of this machine, which the command stops with itself."""
    target = str(config.hydra.launcher._target_)
    return target.endswith(".JoblibLauncher") or (is_submitit(config) and target.endswith(".LocalLauncher"))


def is_slurm(config: DictConfig) -> bool:
    return is_submitit(config) and str(config.hydra.launcher._target_).endswith(".SlurmLauncher")


def check_launcher(config: DictConfig) -> None:
    """Raises:
    StudyError: the launcher would start several processes per worker.
    """
    launcher = config.hydra.launcher
    tasks = int(launcher.get("tasks_per_node") or 1) * int(launcher.get("nodes") or 1)
    if tasks > 1:
        raise StudyError(
            f"a worker is one process, got {tasks} tasks (tasks_per_node x nodes of hydra.launcher); set both to 1, "
            "each trial starts its own ranks"
        )


class Launch:
    """Args:
    example: task overrides with which the config composes; workers need a config although they use little of it.
    """

    def __init__(
        self, context: HydraContext, task_function: TaskFunction, config: DictConfig, example: Sequence[str]
    ) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config
        self.example = tuple(example)

    def workers(self, plan: Plan, number: int, store: Store, wait: bool) -> "Outcome":
        """Start so many workers and, unless told otherwise, wait for them."""
        config = copy.deepcopy(self.config)
        hide_all(config, plan.storage)
        with read_write(config), open_dict(config):
            if OmegaConf.select(config, "hydra.launcher.n_jobs") is not None:
                # joblib's own limit must not keep workers waiting for one another to end, and with 1 it would run the
                # worker in the command's own process, whose death then ends both.
                config.hydra.launcher.n_jobs = max(number, 2)
        worker = Worker(plan, self.context, self.task_function, config, store if is_in_process(config) else None)
        # Hydra's callbacks are for trials, not for the workers that run them.
        context = HydraContext(config_loader=self.context.config_loader, callbacks=Callbacks())
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=worker, config=config)
        overrides = [
            (
                *self.example,
                f"hydra.sweep.subdir={WORKERS_FOLDER}/{plan.first_worker + index}",
                "hydra.output_subdir=null",
                # The directory is each trial's to change, from the one that the command was started in.
                "hydra.job.chdir=false",
            )
            for index in range(number)
        ]
        with _quiet():
            if not wait:
                with _submitted_only() as jobs:
                    launcher.launch(overrides, initial_job_idx=0)
                return Outcome(jobs=tuple(jobs))
            try:
                with watched() if is_slurm(self.config) else nullcontext():
                    returns = launcher.launch(overrides, initial_job_idx=0)
            except StudyError:
                raise
            except Exception as error:  # a launcher whose worker died says so in its own way
                text = one_line(error, plan.storage.secrets)
                return Outcome(broken=text, from_outside=_KILLED.search(text) is not None)
        return _outcome(returns, plan)


class Outcome:
    """How a launch ended.

    Args:
    broken: what the launcher said when a worker died under it.
    error: what a worker could not go on after.
    jobs: names of submitted jobs that nobody waits for.
    from_outside: a signal or the cluster ended a worker, so that starting it again may well help.
    """

    def __init__(
        self,
        shifts: Sequence[Shift] = (),
        broken: str | None = None,
        error: BaseException | None = None,
        jobs: tuple[str, ...] = (),
        from_outside: bool = False,
    ) -> None:
        self.shifts = shifts
        self.broken = broken
        self.error = error
        self.jobs = jobs
        self.from_outside = from_outside

    @property
    def signum(self) -> int | None:
        """The signal that ended a worker in this very process, and with it the command."""
        here = (shift for shift in self.shifts if shift.pid == os.getpid())
        return next((shift.signum for shift in here if shift.signum is not None), None)


def _outcome(returns: Sequence[JobReturn | LostJob], plan: Plan) -> Outcome:
    shifts, error, broken, from_outside = [], None, None, False
    for result in returns:
        if isinstance(result, LostJob):
            broken = broken or result.reason
            from_outside = from_outside or result.from_outside
            continue
        failed = failure_of(result)
        if failed is None:
            shifts.append(result.return_value)
        elif error is None:
            error = failed
    stopped = next((shift.signum for shift in shifts if shift.signum is not None), None)
    if stopped is not None:
        broken = f"stopped by {signal.Signals(stopped).name}"
    if error is not None:
        broken = one_line(error, plan.storage.secrets)
    return Outcome(shifts, broken, error, from_outside=from_outside or stopped is not None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Launchers list their jobs, which here are workers and no news."""
    loggers = [logging.getLogger(name) for name in _LAUNCHER_LOGS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _submitted_only() -> Iterator[list[str]]:
    """Let hydra-submitit-launcher return once its jobs are submitted.

    It always asks each job for its results, and there is no setting against it.
    """
    import submitit

    jobs: list[str] = []

    def results(job: Any) -> list[None]:
        jobs.append(str(job.job_id))
        return [None]

    job_class: Any = submitit.Job
    former = job_class.results
    job_class.results = results
    try:
        yield jobs
    finally:
        job_class.results = former
