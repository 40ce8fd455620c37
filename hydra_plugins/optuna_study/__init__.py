"""A Hydra sweeper whose sweep is an Optuna study with workers.

Choose it with `hydra/sweeper: optuna_study`. A task function that wants to be pruned or resumed asks for its trial:

    from hydra_plugins.optuna_study import TrialPruned, current_trial

    trial = current_trial()          # None outside a sweep
    trial.report(accuracy, step=epoch)
    if trial.should_prune():
        raise TrialPruned

Hydra executes every module here whose name has no leading underscore once more whenever it looks for plugins, so
classes and state live in the underscore modules and this one only names them. Nothing here imports Optuna before a
sweep starts.
"""

from ._errors import StudyError, TrialInterrupted, TrialLost, TrialPruned
from ._secrets import hide as hide_secrets
from ._secrets import hide_override, is_secret_key
from ._set_aside import learn_secrets, set_secrets_aside, without_secrets, written_overrides
from ._status import StudyStatus, TrialRow, load_study, study_status
from ._study import StudyHandle
from ._trial import TrialHandle, current_trial

__all__ = [
    "StudyError",
    "StudyHandle",
    "StudyStatus",
    "TrialHandle",
    "TrialInterrupted",
    "TrialLost",
    "TrialPruned",
    "TrialRow",
    "current_trial",
    "hide_override",
    "hide_secrets",
    "is_secret_key",
    "learn_secrets",
    "load_study",
    "set_secrets_aside",
    "study_status",
    "without_secrets",
    "written_overrides",
]
