"""What a task sees of its trial, in each process of the trial; importing this imports no Optuna.

If a trial trains in several processes (DDP), Lightning starts the other
ranks by repeating the command line, `--multirun` included. Such a process must not start a sweep of its own: it finds
its trial in the environment, where `rank_environment` put it.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

from hydra.errors import CompactHydraException

_TRIAL_VARIABLE = "OPTUNA_STUDY_TRIAL"
# User attribute of a trial that was pruned at the end of a smaller budget and continues.
WAS_PRUNED = "was_pruned"
# What Lightning and torchrun leave in the environment of rank zero; the next trial would mistake it for its own.
_RANK_VARIABLES = (
    "LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


class StudyError(CompactHydraException):
    """A mistake that the user can repair; the message is one line: rule, value received, repair.

    Hydra prints the message of its compact exceptions without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class TrialPruned(Exception):  # noqa: N818 - named as in Optuna
    """Raise it in the task function to end a trial as pruned; Optuna's own exception has the same effect."""


class TrialPaused(Exception):  # noqa: N818 - an outcome like TrialPruned
    """Raise it in the task function when `should_pause` says so; a later attempt resumes from the task's checkpoint."""


class TrialInterrupted(Exception):  # noqa: N818 - an outcome like TrialPruned
    """Raise it in the task function to release the trial to the queue; another attempt resumes it."""


class TrialLost(TrialInterrupted):
    """This attempt was declared dead and another worker resumes the trial; the storage ignores its reports."""


class TaskExited(Exception):  # noqa: N818 - an outcome like the others
    """The task function called `sys.exit()` instead of returning a value or raising an error."""


class TrialHandle:
    """The trial that the task function runs in.

    In the process in which the worker runs the task, reports go to the storage. In every other rank of the same trial
    (`is_rank_zero` is false), reports are dropped and `should_prune` returns false: rank zero decides for all.
    """

    def __init__(
        self,
        *,
        number: int,
        study_name: str,
        params: Mapping[str, Any],
        attempt: int,
        directory: str,
        user_attrs: Mapping[str, Any],
        study_attrs: Mapping[str, Any],
        reported: Mapping[int, float],
        is_rank_zero: bool = False,
    ) -> None:
        self.number = number
        """The number of the trial's first attempt; Hydra's job number and the job directory follow it."""
        self.study_name = study_name
        self.params = dict(params)
        """The swept keys that this trial sets, with their values."""
        self.attempt = attempt
        """0 for the first attempt, one more each time the trial is interrupted."""
        self.directory = directory
        """The job directory, which is the same for every attempt."""
        self.user_attrs = dict(user_attrs)
        """The trial's user attributes, those of earlier attempts included."""
        self.study_attrs = dict(study_attrs)
        """The study's user attributes at the start of the trial."""
        self.reported = dict(reported)
        """Step to value, those of earlier attempts included."""
        self.is_rank_zero = is_rank_zero

    @property
    def is_retry(self) -> bool:
        return self.attempt > 0

    @property
    def was_pruned(self) -> bool:
        """Whether the trial was pruned at the end of a smaller budget, which a larger one continues."""
        return bool(self.user_attrs.get(WAS_PRUNED, False))

    @property
    def last_step(self) -> int | None:
        """The last step that this attempt or an earlier one reported."""
        return max(self.reported, default=None)

    @property
    def interrupted(self) -> bool:
        """Whether the worker was asked to stop; only true for a task that called `defer_interrupt`."""
        return False

    def report(self, value: float, step: int) -> None:
        """Store an intermediate value. A step that was already reported keeps its first value.

        Raises:
            TrialLost: another worker has the trial now; stop the task.
        """

    def should_prune(self) -> bool:
        """Ask the pruner about the reports so far.

        Raises:
            TrialLost: as in report.
        """
        return False

    def should_pause(self) -> bool:
        """Ask the scheduler, after each report and before `should_prune`, whether this trial pauses.

        A task that asks can resume: when it is true, the task raises TrialPaused, and any worker may continue the
        trial later, in the same directory. A task that never asks is pruned where the scheduler would pause it.

        Raises:
            TrialLost: as in report.
        """
        return False

    def set_max_resource(self, max_resource: int) -> None:
        """Say, before the first report, how many reports this trial makes if nothing ends it earlier.

        `hydra.sweeper.budget` reserves what the best trial needs up to there. Of a task that does not say it, the
        trials that begin before any is complete do not pause.

        Raises:
            TrialLost: as in report.
        """

    def set_standard_error(self, standard_error: float) -> None:
        """Say, before the task returns, how far the returned value may be from the one of endless validation data.

        `hydra.sweeper.stop_when=noise` needs it; with several objectives it is ignored.

        Args:
            standard_error: in the unit of the value, 0 or more.

        Raises:
            TrialLost: as in report.
        """

    def set_user_attr(self, key: str, value: Any) -> None:
        """Store a JSON-serializable value with the trial; later attempts see it.

        Raises:
            TrialLost: as in report.
        """
        self.user_attrs[key] = value

    def defer_interrupt(self, seconds: float = 20.0) -> None:
        """Promise to check `interrupted` and to raise TrialInterrupted within this many seconds after it turns true.

        Without this promise, a signal ends the task at once, and whatever it has not saved is lost. The default is
        below the 30 seconds between Slurm's SIGTERM and SIGKILL.
        """


_current: TrialHandle | None = None


def current_trial() -> TrialHandle | None:
    """The trial that this process works on, or None outside a sweep.

    In a task that the sweeper does not run, this is None, so a task works with and without a sweep:

    >>> current_trial() is None
    True
    """
    if _current is not None:
        return _current
    message = rank_message()
    return handle_of_rank(message) if message is not None else None


@contextmanager
def rank_environment(
    trial: TrialHandle, overrides: tuple[str, ...], argv: tuple[str, ...], main: str | None
) -> Iterator[None]:
    """Make this the current trial, and let the processes that its task starts find it.

    In a worker process, `sys.argv` and `__main__` are those of joblib or submitit, from which Lightning would start
    another worker. They become those of the command while the block runs.

    Args:
        trial: the running trial.
        overrides: all overrides of the trial.
        argv: command line of the sweep; empty in the command's own process.
        main: module that the command runs with `python -m`, if any.
    """
    message = {
        "pid": os.getpid(),
        "number": trial.number,
        "study_name": trial.study_name,
        "params": trial.params,
        "attempt": trial.attempt,
        "directory": trial.directory,
        "user_attrs": trial.user_attrs,
        "study_attrs": trial.study_attrs,
        "reported": trial.reported,
        "overrides": list(overrides),
    }
    module = sys.modules["__main__"]
    former_argv, former_spec = sys.argv, getattr(module, "__spec__", None)
    former = {key: os.environ.get(key) for key in (*_RANK_VARIABLES, _TRIAL_VARIABLE)}
    os.environ[_TRIAL_VARIABLE] = json.dumps(message, default=str)
    if argv:
        sys.argv = list(argv)
        module.__spec__ = ModuleSpec(main, None) if main else None
    try:
        with as_current(trial):
            yield
    finally:
        sys.argv = former_argv
        module.__spec__ = former_spec
        for key, value in former.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def rank_message() -> Mapping[str, Any] | None:
    """What `rank_environment` passes to this process, if it is a child of a running task."""
    text = os.environ.get(_TRIAL_VARIABLE)
    message: Mapping[str, Any] | None = None if text is None else json.loads(text)
    # The worker's own process has the variable, too.
    return message if message is not None and message["pid"] != os.getpid() else None


def handle_of_rank(message: Mapping[str, Any]) -> TrialHandle:
    """The trial of a rank other than zero."""
    names = ("number", "study_name", "params", "attempt", "directory", "user_attrs", "study_attrs")
    reported = {int(step): value for step, value in message["reported"].items()}
    return TrialHandle(**{name: message[name] for name in names}, reported=reported)


@contextmanager
def as_current(trial: TrialHandle) -> Iterator[None]:
    """Let `current_trial` return this trial while the block runs."""
    global _current  # noqa: PLW0603 - a process runs one trial at a time
    _current = trial
    try:
        yield
    finally:
        _current = None
