"""Asks the callbacks for a plan of the study before the study is opened."""

from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from .._job import Composer
from .._launch import is_in_process, workers_are_children
from .._monitoring._lines import print_line
from .._study import Callbacks
from .._trial import StudyError
from ._preview import StudyPlan, StudyPreview

if TYPE_CHECKING:
    from .._launch import WorkerSpec
    from .._storage import Storage


class Planner:
    """Makes the plan of a new study, and prints it.

    Args:
        loader: loads configs.
        config: the command's config.
        spec: what the workers will get.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig, spec: "WorkerSpec") -> None:
        self._settings = spec.settings
        self._spec = spec
        # A callback measures on the machine of the command.
        self._trials_run_here = is_in_process(config) or workers_are_children(config)
        self._preview = StudyPreview(spec, Composer(loader, config))

    def show(self) -> None:
        """Print the plan of this sweep as for a new study; no study is created.

        Raises:
            StudyError: no callback plans this sweep.
        """
        plan = self._plan()
        if plan is None:
            reason = self._unknown or "no callback with plan_study"
            reason = "n_trials=null" if self._spec.budget.n_trials is None else reason
            raise StudyError(
                f"hydra.sweeper.plan=true needs a sweep whose callbacks make a plan, got {reason}; remove it to run "
                "the sweep"
            )

    def enqueued(self, storage: "Storage") -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
        """The attributes of a new study, and the configurations to run first, None for those of the settings.

        A study that exists keeps its plan, or goes on without one.
        """
        name = self._spec.study_name
        exists = name in {study.study_name for study in storage.optuna.get_all_studies()}
        if exists or self._settings.plan is False or not self._trials_run_here:
            return {}, None
        plan = self._plan()
        return ({}, None) if plan is None else (dict(plan.user_attrs), self._preview.to_enqueue(plan))

    @property
    def _unknown(self) -> str | None:
        """The setting because of which no one can know the trials before they start, or None."""
        if self._settings.custom_search_space is not None:
            return "custom_search_space"
        return "n_trials=null" if self._spec.budget.n_trials is None else None

    def _plan(self) -> StudyPlan | None:
        if self._settings.custom_search_space is not None or self._spec.budget.n_trials is None:
            return None  # no one can know before what it suggests, or how many trials there will be
        callbacks = Callbacks(self._settings.callbacks, self._settings.storage.secrets)
        plan = callbacks.plan_study(self._preview)
        for line in plan.lines if plan is not None else ():
            print_line(line)
        return plan
