"""What a task function sees of its trial. Importing this imports no Optuna."""

import json
import os
from collections.abc import Mapping
from typing import Any

# Set in the environment of a trial's task, so that the processes it starts know which trial they belong to.
TRIAL_VARIABLE = "OPTUNA_STUDY_TRIAL"


class TrialHandle:
    """The trial that the task function runs in.

    In the process that the worker runs the task in, reports go to the storage. In every other rank of the same trial
    (`is_rank_zero` is false) they are dropped and `should_prune` says no: rank zero decides and tells the others.
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
        """The number of the trial's first attempt; Hydra's job number and job directory are named after it."""
        self.study_name = study_name
        self.params = dict(params)
        """The swept keys this trial sets, and their values."""
        self.attempt = attempt
        """0 for the first attempt, one more each time the trial was interrupted."""
        self.directory = directory
        """The job directory, the same for every attempt."""
        self.user_attrs = dict(user_attrs)
        """The trial's notes, with what earlier attempts left."""
        self.study_attrs = dict(study_attrs)
        """The study's notes as they were when the trial started."""
        self.reported = dict(reported)
        """Step to value, of earlier attempts too."""
        self.is_rank_zero = is_rank_zero

    @property
    def is_retry(self) -> bool:
        return self.attempt > 0

    @property
    def last_step(self) -> int | None:
        """The last step reported, by this attempt or an earlier one."""
        return max(self.reported, default=None)

    @property
    def interrupted(self) -> bool:
        """Whether the worker was asked to stop; true only for a task that called `defer_interrupt`."""
        return False

    def report(self, value: float, step: int) -> None:
        """Store an intermediate value. A step that was already reported keeps its first value.

        Raises:
            TrialLost: the trial was given to another worker; drop it.
        """

    def should_prune(self) -> bool:
        """Ask the pruner about what was reported so far.

        Raises:
            TrialLost: as in report.
        """
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note something JSON can hold with the trial; later attempts see it.

        Raises:
            TrialLost: as in report.
        """
        self.user_attrs[key] = value

    def defer_interrupt(self, seconds: float = 20.0) -> None:
        """Promise to look at `interrupted` and to raise TrialInterrupted within so many seconds of it turning true.

        Without the promise a signal ends the task at once, wherever it is, and whatever was not yet saved is lost. The
        default stays below the 30 seconds that Slurm gives between SIGTERM and SIGKILL.
        """


_current: TrialHandle | None = None


def current_trial() -> TrialHandle | None:
    """The trial this process works on, or None outside a sweep."""
    if _current is not None:
        return _current
    told = os.environ.get(TRIAL_VARIABLE)
    if told is None:
        return None
    message = json.loads(told)
    # The variable outlives nothing: the worker takes it away with its trial. Only children of the task get here.
    return handle_of(message) if message["pid"] != os.getpid() else None


def handle_of(message: Mapping[str, Any]) -> TrialHandle:
    """The handle of a rank other than zero, from what rank zero's worker put into the environment."""
    return TrialHandle(
        number=message["number"],
        study_name=message["study_name"],
        params=message["params"],
        attempt=message["attempt"],
        directory=message["directory"],
        user_attrs=message["user_attrs"],
        study_attrs=message["study_attrs"],
        reported={int(step): value for step, value in message["reported"].items()},
    )


def set_current(trial: TrialHandle | None) -> None:
    global _current  # noqa: PLW0603 - a process runs one trial at a time
    _current = trial
