"""Everything that a sweep checks before it opens the study: its settings, its search space, and whether both fit.

The result is a `WorkerSpec`, which is all that workers get.
"""

import difflib
import logging
import math
import os
import re
import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .._budget import Budget
from .._heartbeat import WorkerId
from .._job import sweep_folders
from .._kubernetes._submission import is_kubernetes
from .._launch import WorkerSpec, check_launcher, is_in_process, is_submitit, launcher_name, workers_are_children
from .._monitoring._lines import print_line
from .._optuna import build_pruner, build_sampler, is_finite, random_parameters_message
from .._redaction import one_line
from .._schedulers._pausing import build_scheduler
from .._search_space._custom import check_function
from .._search_space._grammar import domains_of
from .._search_space._packages import check_packages
from .._search_space._space import Space, build_space
from .._study import Callbacks
from .._trial import StudyError
from ._reading import Settings, is_from_command_line, read_settings

log = logging.getLogger("hydra_plugins.optuna_study")

# Job numbers with which to check whether the directory of a trial contains its number.
_SOME_NUMBERS = (0, 1, 2)


class Validation:
    """The checks of one sweep, to be called in this order.

    Args:
        context: Hydra's context.
        config: the command's config.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self.context = context
        self.config = config
        self._has_numbered_directories = True

    def settings(self) -> Settings:
        """The settings, checked against the launcher."""
        settings = read_settings(self.config)
        launcher = launcher_name(self.config)
        if settings.storage.kind == "memory" and not is_in_process(self.config):
            raise StudyError(
                f"storage=null keeps the study in this process, which workers of launcher {launcher} "
                "cannot see; set hydra.sweeper.storage, for example to sqlite:///study.db"
            )
        if not settings.wait and not is_submitit(self.config):
            raise StudyError(
                f"wait=false needs a launcher that submits jobs, got {launcher}; use hydra/launcher=submitit_slurm"
            )
        check_launcher(self.config)
        return replace(settings, n_jobs=self._n_workers(settings))

    def _n_workers(self, settings: Settings) -> int:
        """The number of workers, which may also be given as joblib's `n_jobs`."""
        given = OmegaConf.select(self.config, "hydra.launcher.n_jobs")
        if given is None or given in (-1, settings.n_jobs):  # -1 is joblib's default
            return settings.n_jobs
        if settings.n_jobs != 1 or is_from_command_line(self.config, "hydra.sweeper.n_jobs") or int(given) < 1:
            raise StudyError(
                f"a sweep has one number of workers, got hydra.sweeper.n_jobs={settings.n_jobs} and "
                f"hydra.launcher.n_jobs={given}; set hydra.sweeper.n_jobs alone"
            )
        print_line(f"hydra.launcher.n_jobs={given} sets hydra.sweeper.n_jobs: {given} workers")
        return int(given)

    def space(self, settings: Settings, arguments: list[str]) -> Space:
        """The search space; the sampler and the pruner are built once to check that they can be."""
        params: dict[str, Any] = {**domains_of(settings.search_space), **settings.params}
        choices = self.config.hydra.runtime.choices or {}

        def lookup(key: str) -> str | None:
            if key in choices:
                return str(choices[key])
            value = OmegaConf.select(self.config, key, throw_on_missing=False)
            return None if value is None or OmegaConf.is_config(value) else str(value)

        space = build_space(params, arguments, lookup, self.context.config_loader)
        if not space.parameters and settings.custom_search_space is None:
            raise StudyError("nothing to sweep: set hydra.sweeper.params or give a range on the command line")
        check_packages(settings.sampler)
        build_sampler(settings.sampler, space, 0)
        build_pruner(settings.pruner)
        build_scheduler(settings.scheduler)
        check_function(settings.custom_search_space)
        if (message := random_parameters_message(settings.sampler, space)) is not None:
            print_line(message)
        return space

    def examples(self, settings: Settings, space: Space) -> list[tuple[str, ...]]:
        """Compose the config with both ends of every range, so that a typo stops the sweep before its first trial.

        Returns:
            The overrides of each example.
        """
        examples = space.examples()
        composed = self.composed = [self._composed([*space.fixed, *example]) for example in examples]
        callbacks = Callbacks(settings.callbacks, settings.storage.secrets)
        for config in () if is_kubernetes(self.config) else composed:
            callbacks.check_config(config)  # where the data is; that of pods need not be here
        of_first = {_job_directory(composed[0], number) for number in _SOME_NUMBERS}
        self._has_numbered_directories = len(of_first) == len(_SOME_NUMBERS)
        directories = of_first | {_job_directory(config, _SOME_NUMBERS[0]) for config in composed}
        has_custom_space = settings.custom_search_space is not None  # its suggestions are not in the examples
        differ = len(examples) > 1 and not has_custom_space
        if len(directories) == 1 and settings.n_trials != 1 and (differ or self._is_constant("subdir")):
            raise StudyError(
                "hydra.sweep.subdir must differ from trial to trial, got the same directory for all: "
                f"{directories.pop()}; use ${{hydra.job.num}} or ${{hydra.job.override_dirname}} in it"
            )
        return examples

    def _is_constant(self, name: str) -> bool:
        """Whether this part of `hydra.sweep` contains no interpolation."""
        written = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        return isinstance(written, dict) and "${" not in str(written[name])

    def _composed(self, overrides: list[str]) -> DictConfig:
        try:
            return self.context.config_loader.load_sweep_config(self.config, overrides)
        except HydraException as error:
            message = " ".join(f"{error} {error.__cause__ or ''}".split())
            unknown = re.search(r"[Kk]ey '([^']+)'", message)
            similar = difflib.get_close_matches(unknown[1], _all_keys(self.config), n=3) if unknown else []
            hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
            raise StudyError(f"the search space does not fit the config: {message}{hint}") from None

    def worker_spec(self, settings: Settings, space: Space) -> WorkerSpec:
        """What the workers of this launch get."""
        finite, n_trials = is_finite(settings.sampler), settings.n_trials
        if finite and settings.custom_search_space is None:
            size = space.size()
            if size is None:
                raise StudyError("this sampler tries every combination, and an interval has too many values; use range")
            n_trials = size if n_trials is None else min(n_trials, size)
        launch_id = secrets.token_hex(8)
        try:
            sweep_dir = str(Path(str(self.config.hydra.sweep.dir)).absolute())
        except OmegaConfBaseException as error:
            raise StudyError(
                f"hydra.sweep.dir must be the same for all trials, got one without a value ({one_line(error)}); "
                "put what differs from trial to trial into hydra.sweep.subdir"
            ) from None
        default_name = f"{self.config.hydra.job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        return WorkerSpec(
            study_name=settings.study_name or default_name,
            settings=settings,
            budget=Budget(
                n_trials=n_trials,
                failures_use_budget=finite,
                # One more than the rate allows; 0.29 * 100 is less than 29 in floating point.
                max_failures=math.floor(settings.max_failure_rate * (n_trials or 0) + 1e-9) + 1,
                max_failure_rate=settings.max_failure_rate,
                limit=settings.budget,
                # A share of fewer than three trials means little; a rate of 0 allows no failure at all.
                min_trials_for_failures=3 if settings.max_failure_rate > 0 else 1,
                early_stopping_patience=settings.early_stopping_patience,
                stop_when=settings.stop_when,
                max_retries=settings.max_retries,
            ),
            space=space,
            launch_id=launch_id,
            sweep_dir=sweep_dir,
            has_numbered_directories=self._has_numbered_directories,
            argv=() if is_in_process(self.config) else tuple(sys.argv),
            main=getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None),
            command=WorkerId.of_this_process(launch_id, -1, settings.heartbeat),
            ends_with_command=settings.wait and workers_are_children(self.config),
        )


def _job_directory(config: DictConfig, number: int) -> str:
    try:
        return sweep_folders(config, number)[2]
    except OmegaConfBaseException as error:
        raise StudyError(f"hydra.sweep.subdir names no folder: {one_line(error)}; repair what it refers to") from None


def _all_keys(config: DictConfig) -> set[str]:
    """Every key of the application's config, without the path to it, as Hydra's messages name it."""
    plain = OmegaConf.to_container(config, resolve=False)
    found: set[str] = set()
    waiting: list[Any] = [{key: plain[key] for key in plain if key != "hydra"}] if isinstance(plain, dict) else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found |= {str(key) for key in node}
            waiting += node.values()
    return found
