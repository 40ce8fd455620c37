"""Hydra callbacks, named in `conf/train.yaml`: what happens to a composed config before Hydra writes it down.

Hydra only warns about an exception in a callback and continues, so a user's mistake exits here.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from eyegender.core.command_line.alerts import take_alert
from eyegender.core.command_line.dict_values import settle
from eyegender.core.config_keys import RENAMED, rename_keys, rename_override
from eyegender.core.errors import USER_MISTAKE, UserError
from eyegender.core.objectives import check_directions
from eyegender.core.output_folder import check_folder
from eyegender.core.schema import check_sweep_metrics, parse
from eyegender.core.secrets import move_secrets_to_environment, register_secrets
from eyegender.training.output_of_runs import check_run_folder, check_sweep_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydra.conf import HydraConf
    from omegaconf import DictConfig

_RENAMED_SECTIONS = {"model", "optimizer", "scheduler"}


class TakeAlert(Callback):
    """Takes `alert` out of the config, before anything else can fail or write it down."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        with _exit_on_mistake():
            take_alert(config, sweep=False)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        with _exit_on_mistake():
            take_alert(config, sweep=True)


class RenameKeys(Callback):
    """Gives the keys that config files of earlier versions set their new names, and dicts their keys."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        settle(config)
        sections = [name for name in _RENAMED_SECTIONS if name in config]
        old = OmegaConf.to_container(OmegaConf.masked_copy(config, sections))
        renamed = rename_keys(old)
        if renamed is not old:
            with flag_override(config, ["struct", "readonly"], [False, False]):
                for name in _RENAMED_SECTIONS & renamed.keys():
                    config[name] = renamed[name]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        with _exit_on_mistake():
            for name, new in RENAMED.items():
                if OmegaConf.select(config, name) is not None:  # every trial is composed from the same files again
                    raise UserError(f"a config file sets {name}, which is now called {new}; rename it there")
        params = OmegaConf.select(config, "hydra.sweeper.params")
        if params:
            with flag_override(config, ["struct", "readonly"], [False, False]):
                written: Any = OmegaConf.to_container(params, resolve=False)
                config.hydra.sweeper.params = {rename_override(key): value for key, value in written.items()}


class HideSecrets(Callback):
    """Replaces the passwords of config files by `${oc.env:NAME}`; those of the command line are replaced earlier."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        move_secrets_to_environment(config)


class CheckCheckpoint(Callback):
    """Refuses a change to a resumed run; `.hydra/config.yaml` would record a value that was not used."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        if config.ckpt_path is None:
            return
        from eyegender.training.resume import check_config, load_latest

        with _exit_on_mistake():
            own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
            register_secrets(own)
            path, checkpoint = load_latest(Path(config.ckpt_path))
            check_config(checkpoint, parse(own), path)


class CheckOutput(Callback):
    """Refuses an output folder with the result of another run or sweep, before Hydra writes the config there.

    Args:
        enabled: false in `conf/audit.yaml`, which has the keys of a training run and trains nothing.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        if self.enabled:
            with _exit_on_mistake():
                folder = _output_folder(config, "hydra.run.dir")
                check_run_folder(folder, ckpt_path=config.ckpt_path, overwrite=_is_true(config.overwrite))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        if not self.enabled or OmegaConf.select(config, "hydra.sweeper.plan"):  # a plan runs nothing
            return
        with _exit_on_mistake(), suppress(OmegaConfBaseException):  # the sweeper says what is wrong with its folder
            folder = _output_folder(config, "hydra.sweep.dir")
            overwrite = _is_true(config.overwrite)
            check_sweep_folder(folder, continues=lambda: _is_study_of(config, folder), overwrite=overwrite)


def _output_folder(config: DictConfig, key: str) -> Path:
    """The output folder, which `output` and Hydra's own key name.

    Raises:
        UserError: they name two folders.
    """
    folder = Path(str(OmegaConf.select(config, key))).resolve()
    if config.output is not None and Path(str(config.output)).expanduser().resolve() != folder:
        raise UserError(
            f"output and {key} must name one folder, got output={config.output} and {key}={folder}; give one of them"
        )
    check_folder(Path(str(OmegaConf.select(config, key))), "output")
    return folder


def _is_true(value: object) -> bool:
    """Whether the config's schema reads a value as true, such as `yes`; false for what it refuses."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def _is_study_of(config: DictConfig, folder: Path) -> bool:
    """Whether the sweep is a study that has trials and wrote its config into the folder."""
    from hydra_plugins.optuna_study import StudyError, load_study

    sweeper = config.hydra.sweeper
    name = sweeper.get("study_name")
    try:
        written = OmegaConf.select(OmegaConf.load(folder / "multirun.yaml"), "hydra.sweeper.study_name")
        return name is not None and written == name and bool(load_study(sweeper.storage, name).trials)
    except (OSError, StudyError, OmegaConfBaseException):
        return False


class CheckSweep(Callback):
    """Refuses a sweep that optimizes unknown metrics, or in the wrong direction, before its study is opened."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        with _exit_on_mistake():
            check_sweep_metrics(config)
            check_directions(config)


def check_single_run(hydra: HydraConf) -> None:
    """Raises UserError if a sweep is configured but `-m` is missing, so that Hydra would start a single run."""
    if hydra.mode == RunMode.MULTIRUN:
        return
    if chosen := hydra.runtime.choices.get("sweeps"):
        raise UserError(f"a sweep must be started with -m, got +sweeps={chosen} without it; add -m")
    for line in hydra.overrides.hydra:
        if re.match(r"[+~]*hydra[./](sweep|sweeper|launcher)\b", line):
            raise UserError(f"{line} means something in a sweep only, got a single run; add -m, or remove it")


@contextmanager
def _exit_on_mistake() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise SystemExit(USER_MISTAKE) from error  # `command` prints it
