"""Asking a pruner, for a study with one objective or with several."""

import copy
from collections.abc import Container
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ._attrs import STEPS
from ._patient import delegating


def reports_of(trial: FrozenTrial) -> dict[int, float]:
    """Step to reported value, wherever it is kept."""
    kept: dict[str, Any] = trial.system_attrs.get(STEPS) or {}
    return {**trial.intermediate_values, **{int(step): float(value) for step, value in kept.items()}}


def with_reports(trial: FrozenTrial) -> FrozenTrial:
    """A copy whose reports are where a pruner looks."""
    shown = copy.copy(trial)
    shown.intermediate_values = reports_of(trial)
    return shown


class _OneObjective:
    """A storage as a pruner needs to see it: one direction, and the reports on that objective.

    Optuna refuses reports in a study of several objectives, and samplers would trip over them, so they are kept in an
    attribute of ours and put where pruners look only here.
    """

    def __init__(self, inner: BaseStorage, direction: StudyDirection) -> None:
        self.inner = inner
        self.direction = direction

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        return [self.direction]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return with_reports(self.inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [with_reports(trial) for trial in self.inner.get_all_trials(study_id, deepcopy, states)]


_ONE_OBJECTIVE: Any = delegating("OneObjectiveStorage", _OneObjective)


def has_rungs(pruner: optuna.pruners.BasePruner) -> bool:
    """Whether the pruner judges each trial at fixed steps and notes each judgement with the trial."""
    return isinstance(pruner, optuna.pruners.SuccessiveHalvingPruner | optuna.pruners.HyperbandPruner)


def should_prune(study: optuna.Study, trial: FrozenTrial, pruned_objective: int) -> bool:
    """Args:
    pruned_objective: index of the objective whose values were reported.
    """
    if len(study.directions) == 1:
        return study.pruner.prune(study, trial)
    storage = _ONE_OBJECTIVE(study._storage, study.directions[pruned_objective])
    view = optuna.Study(study.study_name, storage, study.sampler, study.pruner)
    return study.pruner.prune(view, with_reports(trial))
