"""What a sweep checks before it touches the study: settings, search space, and that the config composes."""

import difflib
import os
import re
import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ._budget import Rules
from ._build_space import build_space
from ._console import say
from ._errors import StudyError
from ._hooks import Hooks
from ._job import job_directory
from ._launch import check_launcher, is_in_process, is_submitit, launcher_name, workers_are_children
from ._legacy import params_of
from ._owner import Owner
from ._plan import Plan
from ._samplers import build_pruner, build_sampler, drawn_at_random, is_finite
from ._secrets import one_line
from ._set_aside import plain_without_secrets
from ._settings import Settings, is_from_command_line, read_settings
from ._space import Space

# Job numbers tried to see whether a trial's directory contains its number.
_SOME_NUMBERS = (0, 1, 2)


class Preparation:
    """Args:
    config: the command's, as Hydra composed it.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self.context = context
        self.config = config
        self.numbered_dirs = True

    def settings(self) -> Settings:
        settings = read_settings(self.config)
        in_process = is_in_process(self.config)
        if settings.storage.kind == "memory" and not in_process:
            raise StudyError(
                f"storage=null keeps the study in this process, which workers of launcher {launcher_name(self.config)} "
                "cannot see; set hydra.sweeper.storage, for example to sqlite:///study.db"
            )
        if not settings.wait and not is_submitit(self.config):
            raise StudyError(
                f"wait=false needs a launcher that submits jobs, got {launcher_name(self.config)}; "
                "use hydra/launcher=submitit_slurm"
            )
        check_launcher(self.config)
        return replace(settings, n_jobs=self._workers(settings))

    def _workers(self, settings: Settings) -> int:
        """The number of workers, which people may also have given as joblib's `n_jobs`."""
        given = OmegaConf.select(self.config, "hydra.launcher.n_jobs")
        if given is None or given in (-1, settings.n_jobs):  # -1 is joblib's default
            return settings.n_jobs
        if settings.n_jobs != 1 or is_from_command_line(self.config, "hydra.sweeper.n_jobs") or int(given) < 1:
            raise StudyError(
                f"a sweep has one number of workers, got hydra.sweeper.n_jobs={settings.n_jobs} and "
                f"hydra.launcher.n_jobs={given}; set hydra.sweeper.n_jobs alone"
            )
        say(f"hydra.launcher.n_jobs={given} is taken as hydra.sweeper.n_jobs: {given} workers")
        return int(given)

    def space(self, settings: Settings, arguments: list[str]) -> Space:
        params: dict[str, Any] = {**params_of(settings.search_space), **settings.params}
        choices = self.config.hydra.runtime.choices or {}

        def lookup(key: str) -> str | None:
            if key in choices:
                return str(choices[key])
            value = OmegaConf.select(self.config, key, throw_on_missing=False)
            return None if value is None or OmegaConf.is_config(value) else str(value)

        space = build_space(params, arguments, lookup, self.context.config_loader)
        if not space.parameters and settings.custom_search_space is None:
            raise StudyError("nothing to sweep: give hydra.sweeper.params or a range on the command line")
        # Both are built in each worker; here they are built to see that they can be.
        build_sampler(settings.sampler, space, 0)
        build_pruner(settings.pruner)
        _check_function(settings.custom_search_space)
        if (line := drawn_at_random(settings.sampler, space)) is not None:
            say(line)
        return space

    def examples(self, settings: Settings, space: Space) -> list[tuple[str, ...]]:
        """Compose the config with the ends of every range, so that a typo stops the sweep before its first trial.

        Returns:
            The overrides of each example.
        """
        examples = space.examples()
        composed = [self._composed([*space.fixed, *example]) for example in examples]
        hooks = Hooks(settings.callbacks, settings.storage.secrets)
        for config in composed:
            hooks.check_config(config)
        first = {_job_directory(composed[0], number) for number in _SOME_NUMBERS}
        self.numbered_dirs = len(first) == len(_SOME_NUMBERS)
        directories = first | {_job_directory(config, _SOME_NUMBERS[0]) for config in composed}
        by_hook = settings.custom_search_space is not None  # what it suggests is not in the examples
        differ = len(examples) > 1 and not by_hook
        if len(directories) == 1 and settings.n_trials > 1 and (differ or self._is_plain("subdir")):
            raise StudyError(
                "hydra.sweep.subdir must differ from trial to trial, got the same directory for all: "
                f"{directories.pop()}; use ${{hydra.job.num}} or ${{hydra.job.override_dirname}} in it"
            )
        return examples

    def _is_plain(self, name: str) -> bool:
        """Whether this part of `hydra.sweep` refers to nothing that a trial could fill in."""
        written = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        return isinstance(written, dict) and "${" not in str(written[name])

    def _composed(self, overrides: list[str]) -> DictConfig:
        try:
            return self.context.config_loader.load_sweep_config(self.config, overrides)
        except HydraException as error:
            said = " ".join(f"{error} {error.__cause__ or ''}".split())
            raise StudyError(f"the search space does not fit the config: {said}{self._suggestion(said)}") from None

    def _suggestion(self, message: str) -> str:
        unknown = re.search(r"[Kk]ey '([^']+)'", message)
        close = difflib.get_close_matches(unknown[1], _all_keys(self.config), n=3) if unknown else []
        return f"; did you mean {' or '.join(close)}?" if close else ""

    def plan(self, settings: Settings, space: Space) -> Plan:
        finite = is_finite(settings.sampler)
        n_trials = settings.n_trials
        if finite and settings.custom_search_space is None:
            size = space.finite_size()
            if size is None:
                raise StudyError("this sampler tries every combination, which an interval has no end of; use range")
            n_trials = min(n_trials, size)
        name = settings.study_name or f"{self.config.hydra.job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        main = getattr(sys.modules["__main__"], "__spec__", None)
        launch = secrets.token_hex(8)
        try:
            sweep_dir = str(Path(str(self.config.hydra.sweep.dir)).absolute())
        except OmegaConfBaseException as error:
            raise StudyError(
                f"hydra.sweep.dir must be the same for all trials, got one with no value yet ({one_line(error)}); "
                "put what differs from trial to trial into hydra.sweep.subdir"
            ) from None
        return Plan(
            study_name=name,
            storage=settings.storage,
            directions=settings.directions,
            rules=Rules(
                n_trials=n_trials,
                failures_count=finite,
                max_failures=settings.max_failures(n_trials),
                failures_judged_from=settings.failures_judged_from,
                patience=settings.patience,
                max_retries=settings.max_retries,
            ),
            space=space,
            sampler=settings.sampler,
            pruner=settings.pruner,
            launch=launch,
            pruned_objective=settings.pruned_objective,
            timeout=settings.timeout,
            heartbeat=settings.heartbeat,
            storage_patience=settings.storage_patience,
            custom_search_space=settings.custom_search_space,
            callbacks=plain_without_secrets(list(settings.callbacks)),
            unattended=not settings.wait,
            sweep_dir=sweep_dir,
            numbered_dirs=self.numbered_dirs,
            argv=() if is_in_process(self.config) else tuple(sys.argv),
            main=getattr(main, "name", None),
            command=Owner.here(launch, -1, settings.heartbeat),
            ends_with_command=settings.wait and workers_are_children(self.config),
        )


def _check_function(path: str | None) -> None:
    try:
        found = _locate(path) if path is not None else None
    except Exception as error:
        said = " ".join(str(error).split())
        raise StudyError(f"hydra.sweeper.custom_search_space must name a function, got {path}: {said}") from None
    if path is not None and not callable(found):
        raise StudyError(f"hydra.sweeper.custom_search_space must name a function, got {path}, which is none")


def _job_directory(config: DictConfig, number: int) -> str:
    try:
        return job_directory(config, number)
    except OmegaConfBaseException as error:
        raise StudyError(f"hydra.sweep.subdir names no folder: {one_line(error)}; repair what it refers to") from None


def _all_keys(config: DictConfig) -> set[str]:
    """Every key of the application's part of the config, without the path to it, as Hydra's messages name them."""
    plain = OmegaConf.to_container(config, resolve=False)
    found: set[str] = set()
    waiting: list[Any] = [
        {key: value for key, value in plain.items() if key != "hydra"} if isinstance(plain, dict) else {}
    ]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found |= {str(key) for key in node}
            waiting += node.values()
    return found
