"""Composes and runs a command's config within this process; what the user can repair is one UserError."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from eyegender.api.isolation import isolated
from eyegender.api.overrides import as_lines
from eyegender.core.command import (
    error_message,
    failure_line,
    is_raised_by_hydra,
    is_user_mistake,
    prepare_arguments,
    unsupported,
)
from eyegender.core.command_line.alerts import on_failure
from eyegender.core.command_line.dict_values import settle
from eyegender.core.config_files import config_files, config_folder, register_config, register_sweeps
from eyegender.core.errors import UserError
from eyegender.core.objectives import register_resolvers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from eyegender.api.overrides import Overrides

HYDRA = "1.3"
# A package without config files and without folders, which would look like config groups.
_NO_CONFIGS = "eyegender.core"


class ConfigOf:
    """A command's config in this process, within `opened`.

    Args:
        name: name of the command.
        groups: the config groups of the command; None means all.
        config_dir: folder with further config files, as `--config-dir`.
    """

    def __init__(self, name: str, groups: tuple[str, ...] | None = None, config_dir: str | Path | None = None) -> None:
        self.name, self.groups, self.config_dir = name, groups, config_dir
        self.begun = False
        """Whether the task of a run has begun; Hydra's own errors before that are mistakes in the overrides."""

    @contextmanager
    def opened(self) -> Iterator[ConfigOf]:
        """Initialize Hydra inside the block, and restore the process at its end.

        Raises:
            UserError: what the user can repair, with the line that the command would print.
            KeyboardInterrupt: a run was stopped by Ctrl-C, after it had saved a checkpoint.
        """
        with isolated(), self._user_errors(), on_failure(failure_line):
            register_resolvers()
            if (mistake := unsupported()) is not None:
                raise mistake
            if self.groups is None:
                register_sweeps()
                with initialize_config_dir(str(config_folder("conf").resolve()), self.name, version_base=HYDRA):
                    yield self
            else:
                register_config(self.name, self.groups)
                with initialize_config_module(_NO_CONFIGS, job_name=self.name, version_base=HYDRA):
                    yield self

    @property
    def hydra(self) -> Hydra:
        """Hydra's object for this config."""
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra

    def lines(self, overrides: Overrides, *, ranges: bool = False) -> list[str]:
        """The overrides as the command gets them: old keys have their new names, passwords are in the environment."""
        lines = as_lines(overrides, self.composed, ranges=ranges)
        if flags := [line for line in lines if line.startswith("-")]:
            raise UserError(f"overrides must be key=value, got the flag {flags[0]}; remove it")
        if self.config_dir is not None:
            if not isinstance(self.config_dir, str | os.PathLike):
                raise UserError(f"config_dir must be a folder, got {self.config_dir!r}; give its path")
            folder = os.path.abspath(os.fspath(self.config_dir))  # noqa: PTH100 - as Hydra does
            if not os.path.isdir(folder):  # noqa: PTH112
                raise UserError(f"config_dir must be a folder, got {folder}; correct it")
            lines = [f"hydra.searchpath=[file://{folder}]", *lines]
        if ranges:  # a sweep, which has another key for its folder
            return prepare_arguments(["-m", *lines], self.name)[1:]
        return prepare_arguments(lines, self.name)

    def composed(self, lines: list[str]) -> DictConfig:
        """The composed config."""
        config = compose(self.name, overrides=lines)
        settle(config)
        return config

    def composed_sweep(self, lines: list[str]) -> DictConfig:
        """The config of a sweep with Hydra's own part, in which ranges are not values yet."""
        loader = GlobalHydra.instance().config_loader()
        return loader.load_configuration(self.name, lines, RunMode.MULTIRUN, validate_sweep_overrides=False)

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_user_mistake(error) and (self.begun or not is_raised_by_hydra(error)):
                raise
            message = error_message(error, config_files(self.name, self.groups))
            message = message.replace("add --multirun to your command line", "call eyegender.sweep")
            cause = error if os.environ.get("HYDRA_FULL_ERROR") else None
            raise UserError(message, getattr(error, "details", ())) from cause
        except SystemExit as end:
            mistake: Any = end.__cause__
            if isinstance(mistake, UserError):  # of one of our Hydra callbacks
                raise UserError(str(mistake), mistake.details) from None
            if end.code == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
