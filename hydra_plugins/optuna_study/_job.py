"""Running one trial as a Hydra job of its own, with its directory, config dump and log."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ._compose import Composer
from ._run_job import run_job
from ._secrets import HIDDEN, hide_in_urls, hide_override
from ._set_aside import set_secrets_aside, written_overrides

if TYPE_CHECKING:
    from ._spec import StorageSpec

log = logging.getLogger("hydra_plugins.optuna_study")


def hide_all(config: DictConfig, spec: "StorageSpec") -> None:
    """Take every password out of a config that will be written down or pickled.

    An interpolation such as `${oc.env:STUDY_STORAGE}` stays as it is written.
    """
    set_secrets_aside(config)
    hide_storage(config, spec)


def hide_storage(config: DictConfig, spec: "StorageSpec") -> None:
    """The same for a config from which a `Composer` has taken all passwords but the storage's."""
    with read_write(config.hydra), open_dict(config.hydra):
        raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
        written = raw.get("storage") if isinstance(raw, dict) else None
        if isinstance(written, str) and "${" not in written:
            config.hydra.sweeper.storage = hide_in_urls(written)
        elif spec.kind == "object":
            config.hydra.sweeper.storage = HIDDEN
        for name in ("hydra", "task"):
            lines = written_overrides(config.hydra, name)
            config.hydra.overrides[name] = [hide_override(line, spec.secrets) for line in lines]


class TrialJob:
    """Args:
    config: the command's config, from which each trial's is composed anew.
    """

    def __init__(
        self, context: HydraContext, task_function: TaskFunction, config: DictConfig, spec: "StorageSpec"
    ) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config
        self.spec = spec
        self.composer = Composer(context.config_loader, config, self._finish, self._shown)

    def compose(
        self,
        fixed: tuple[str, ...],
        drawn: tuple[str, ...],
        number: int,
        directory: str | None,
        reserve: Callable[[str], str] = str,
    ) -> tuple[DictConfig, str]:
        """The trial's config and its job directory.

        Args:
        fixed: overrides that all trials share.
        drawn: those of this trial.
        number: of the trial's first attempt.
        directory: that of an earlier attempt; None for the first, which goes where `hydra.sweep` says.
        reserve: given the directory that `hydra.sweep` names, returns the one that the trial gets.
        """
        config = self.composer.compose(fixed, drawn)
        root, subdir = _sweep_folders(config, number)
        wanted = _joined(root, subdir)
        if directory is None:
            directory = reserve(wanted)
        if directory != wanted:
            root, subdir = _parted(directory, root)
        with open_dict(config):
            # The task's original directory is the command's, wherever an earlier trial of this worker has gone.
            config.hydra.runtime.cwd = self.config.hydra.runtime.cwd
            # With their values: while the job is set up, HydraConfig is still the worker's.
            config.hydra.sweep.dir, config.hydra.sweep.subdir = root, subdir
            # Ranks that Lightning starts are told to use hydra.run.dir.
            config.hydra.run.dir = directory
        return config, directory

    def _finish(self, config: DictConfig) -> None:
        if not config.hydra.verbose:
            with open_dict(config):
                _silence_console(config)
        hide_storage(config, self.spec)

    def _shown(self, override: str) -> str:
        return hide_override(override, self.spec.secrets)

    def run(self, config: DictConfig) -> JobReturn:
        """Run the task; its exceptions are in the result, a signal's come out."""
        try:
            result = run_job(self.context, self.task_function, config)
            error = failure_of(result)
            if error is not None:
                # While logging still goes to the trial's own file.
                log.error("the task failed", exc_info=error)
            return result
        finally:
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


def job_directory(config: DictConfig, number: int) -> str:
    """The absolute directory that `hydra.sweep` names for the trial with this number and composed config."""
    return _joined(*_sweep_folders(config, number))


def _sweep_folders(config: DictConfig, number: int) -> tuple[str, str]:
    """`hydra.sweep.dir` and `hydra.sweep.subdir` for the trial with this number.

    Either may refer to the config by `${key}` or `${hydra.key}`, or to HydraConfig by `${hydra:key}`.
    """
    set_number(config, number)
    with as_hydra_config(config):
        return str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)


def _joined(root: str, subdir: str) -> str:
    return os.path.abspath(Path(root) / subdir)  # noqa: PTH100 - without "..", as Hydra names it


def _parted(directory: str, root: str) -> tuple[str, str]:
    """A job directory as `hydra.sweep.dir` and the rest of it; its parent takes the place of one that it is not in."""
    place, above = Path(directory), Path(_joined(root, ""))
    return (root, str(place.relative_to(above))) if above in place.parents else (str(place.parent), place.name)


def set_number(config: DictConfig, number: int) -> None:
    with open_dict(config):
        config.hydra.job.id = str(number)
        config.hydra.job.num = number


@contextmanager
def as_hydra_config(config: DictConfig) -> Iterator[None]:
    """Let `${hydra:key}` and `HydraConfig.get()` mean this config while the block runs."""
    hydra: Any = HydraConfig.instance()
    former, hydra.cfg = hydra.cfg, config
    try:
        yield
    finally:
        hydra.cfg = former


def failure_of(result: JobReturn) -> BaseException | None:
    """The exception the task ended with. `return_value` would raise it, and write to stderr before."""
    value: Any = result._return_value
    return value if isinstance(value, BaseException) else None


def _silence_console(config: DictConfig) -> None:
    """Keep the trial's log in its file: on the console there is one line per finished trial."""
    handlers = OmegaConf.select(config, "hydra.job_logging.root.handlers")
    if handlers is not None and "file" in handlers:
        config.hydra.job_logging.root.handlers = [name for name in handlers if name != "console"]
