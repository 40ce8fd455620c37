"""A Hydra sweeper whose sweep is an Optuna study that several workers can share.

Choose it with `hydra/sweeper: optuna_study`. A task function that can be pruned or resumed asks for its trial:

    from hydra_plugins.optuna_study import TrialPruned, current_trial

    trial = current_trial()          # None outside a sweep
    trial.report(accuracy, step=epoch)
    if trial.should_prune():
        raise TrialPruned

Hydra executes every module here whose name has no leading underscore again when it looks for plugins, so classes and
state live in the underscore modules, and this one only exports them. Nothing imports Optuna before a sweep starts.
"""

from ._monitoring._handle import StudyHandle
from ._monitoring._lines import params_text
from ._monitoring._loading import load_study
from ._planning._preview import ExpectedTrials, StudyPlan, StudyPreview
from ._redaction import (
    is_name_key,
    is_secret_key,
    move_secrets_to_environment,
    override_without_secrets,
    raw_overrides,
    redact,
    redact_override,
    redact_urls,
    register,
    register_secrets,
)
from ._schedulers import START, Curve, Scheduler
from ._schedulers._freeze_thaw import FreezeThawScheduler
from ._schedulers._promotion import PromotionScheduler
from ._status import StudyStatus, TrialRow, study_status
from ._trial import StudyError, TrialHandle, TrialInterrupted, TrialLost, TrialPaused, TrialPruned, current_trial

__all__ = [
    "START",
    "Curve",
    "ExpectedTrials",
    "FreezeThawScheduler",
    "PromotionScheduler",
    "Scheduler",
    "StudyError",
    "StudyHandle",
    "StudyPlan",
    "StudyPreview",
    "StudyStatus",
    "TrialHandle",
    "TrialInterrupted",
    "TrialLost",
    "TrialPaused",
    "TrialPruned",
    "TrialRow",
    "current_trial",
    "is_name_key",
    "is_secret_key",
    "load_study",
    "move_secrets_to_environment",
    "override_without_secrets",
    "params_text",
    "raw_overrides",
    "redact",
    "redact_override",
    "redact_urls",
    "register",
    "register_secrets",
    "study_status",
]
