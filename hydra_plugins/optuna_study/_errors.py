"""What a user of a study can do wrong, and what can happen to a trial."""

from hydra.errors import CompactHydraException


class StudyError(CompactHydraException):
    """A mistake that its reader can repair; the message is one line: rule, value received, repair.

    Hydra prints its own compact exceptions as their message alone, so no traceback comes with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class TrialPruned(Exception):  # noqa: N818 - named as in Optuna
    """Raise it in the task function to end a trial as pruned; Optuna's own exception does the same."""


class TrialInterrupted(Exception):  # noqa: N818 - an outcome like TrialPruned
    """Raise it in the task function to give the trial back to the queue; another attempt goes on with it."""


class TrialLost(TrialInterrupted):
    """This attempt was taken for dead and given to another worker: whatever it reports is void."""


class TaskExited(Exception):  # noqa: N818 - what happened, as the others here
    """The task function ended by `sys.exit()` instead of returning a value or raising an error of its own."""
