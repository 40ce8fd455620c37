"""The start of every command: its config is composed with Hydra, and a user's mistake is printed as one line."""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import signal
import sys
import traceback
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from eyegender.core.command_line.alerts import on_failure
from eyegender.core.command_line.command_help import help_text
from eyegender.core.command_line.dict_values import readable, settle
from eyegender.core.config_files import config_files, config_folder, register_config, register_sweeps
from eyegender.core.config_keys import rename_override, suggest_key
from eyegender.core.errors import USER_MISTAKE, UserError, install_hint, is_disk_full, one_line
from eyegender.core.imports import leave_quickly
from eyegender.core.objectives import register_resolvers
from eyegender.core.output_folder import rename_run_dir
from eyegender.core.secrets import override_without_secrets, redact, redact_logs, register_secret, register_secrets
from eyegender.core.standard_streams import log_in_utf8, lost_output, make_output_safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import NoReturn

    from omegaconf import DictConfig

_SET_BY_US = "EYEGENDER_SET_FULL_ERROR"  # set if it was not the user who set HYDRA_FULL_ERROR
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}

_OUTPUT_LOST = (
    "standard output (stdout) must take what a command prints, got: {}; everything else is done, so free disk space or "
    "redirect the output"
)
# MLflow's own variables. Nothing prints them; a library's error might.
_LOGIN = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_PACKAGE = Path(__file__).parents[1]
# A package without folders. None would be that of the command, whose folder `models` looks like a config group.
_NO_CONFIGS = "pkg://eyegender.core"


def command(
    config_name: str, groups: tuple[str, ...] | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Turn a task into a command that prints a user's mistake without a traceback.

    The task gets the composed config and raises `UserError` for what the user can repair. Any other exception is a bug
    and keeps its traceback. Exit codes: 0, 2 for a user's mistake, 1 for a bug or failure, 130 and 143 for signals.

    Args:
        config_name: name of the YAML file in `conf/`, without its extension.
        groups: the only config groups that the command has; None means all of `conf/`. Hydra treats `model=X` as the
            choice of a file if there is a group `model`, so a command whose `model` is a plain value must exclude it.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        begun = False

        @wraps(task)
        def job(cfg: DictConfig) -> Any:
            nonlocal begun
            begun = True
            prepare_job(cfg)
            try:
                return task(cfg)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN or not is_user_mistake(error) or _wants_traceback():
                    raise  # the sweeper records it as the reason of the trial's failure
                print_error(error)
                raise SystemExit(USER_MISTAKE) from None

        def run() -> None:
            nonlocal begun
            begun = False
            user_folder = _prepare_process(config_name, groups)
            try:
                sys.argv[1:] = prepare_arguments(sys.argv[1:], config_name)
                if (flags := get_args_parser().parse_args(sys.argv[1:])).help:
                    folder = Path(flags.config_dir) if flags.config_dir else user_folder
                    print(help_text(config_name, groups, flags.overrides, folder), end="")
                else:
                    path = str(config_folder("conf")) if groups is None else _NO_CONFIGS
                    hydra.main(version_base="1.3", config_path=path, config_name=config_name)(job)()
            except Exception as error:
                if not (is_user_mistake(error) or (not begun and is_raised_by_hydra(error))) or _wants_traceback():
                    raise
                print_error(error, config_files(config_name, groups))
                sys.exit(USER_MISTAKE)
            except SystemExit as end:
                if isinstance(end.__cause__, UserError):  # of a Hydra callback
                    print_error(end.__cause__)
                raise
            except KeyboardInterrupt:
                print("eyegender: interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            if lost := lost_output():
                reason = lost.strerror or type(lost).__name__
                print(f"eyegender: {_OUTPUT_LOST.format(reason)}", file=sys.stderr)
                if config_name != "train":  # a training leaves a run; of other commands the text may be the only result
                    sys.exit(USER_MISTAKE)

        @wraps(task)
        def main() -> None:
            # Of the other commands, somebody waits for the result.
            with on_failure(failure_line) if config_name == "train" else nullcontext():
                run()

        main.job = job  # type: ignore[attr-defined]  # what a sweep from Python runs
        return main

    return decorate


def prepare_job(cfg: DictConfig) -> None:
    """Keep the secrets of a job's config out of its log, and let the log accept every character."""
    settle(cfg)
    register_secrets(cfg)
    for name in _LOGIN:
        register_secret(os.environ.get(name, ""))
    redact_logs()
    log_in_utf8()


def _prepare_process(config_name: str, groups: tuple[str, ...] | None) -> Path | None:
    """Make the process ready for Hydra; returns the folder of `--config-dir` if Hydra does not get it.

    Raises:
        SystemExit: eyegender cannot run on this system or in this folder.
    """
    make_output_safe()
    leave_quickly()
    register_resolvers()
    if (mistake := unsupported()) is not None:
        print_error(mistake)
        sys.exit(USER_MISTAKE)
    user_folder = None
    if groups is None:
        register_sweeps()
    else:
        user_folder = register_config(config_name, groups)
    # Hydra copies all registered configs for each group that it looks up, although it only reads them.
    ConfigStore.instance().__deepcopy__ = lambda _: ConfigStore.instance()  # type: ignore[attr-defined]
    sys.excepthook = _print_redacted
    logging.raiseExceptions = False  # with a log file on a full disk, every line would print a traceback
    # Before MLflow is imported; `tracking.client` sets it for whoever imports eyegender.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not _wants_traceback():
        # Otherwise Hydra prints the error and exits itself. Child processes inherit both variables.
        os.environ.update({"HYDRA_FULL_ERROR": "1", _SET_BY_US: "1"})
    return user_folder


def prepare_arguments(arguments: list[str], config_name: str = "train") -> list[str]:
    """The command line that Hydra gets.

    Old keys have their new names, the key of the output folder is the one that counts in this command, and passwords
    are in the environment.

    Raises:
        UserError: a flag or an override that Hydra cannot read, or the one with which Hydra would unpickle a file.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; put Hydra's flags before the overrides, --hydra-help lists them")

    parser.error = refuse  # type: ignore[method-assign]  # argparse itself prints its usage and exits
    parsed = parser.parse_args(arguments)
    if parsed.experimental_rerun is not None:
        raise UserError("--experimental-rerun would run whatever code its file holds; give overrides or ckpt_path=FILE")
    # Both spellings are accepted; Hydra itself refuses the plus for a group that has a default.
    arguments = [a.removeprefix("+") if a.startswith("+experiment=") else a for a in arguments]
    arguments = rename_run_dir(arguments, config_name, sweep=parsed.multirun)
    if config_name == "demo":  # the other commands have one model
        arguments = [re.sub(r"^(\+*)model=", r"\1models=", argument) for argument in arguments]
    arguments = [override_without_secrets(rename_override(argument)) for argument in arguments]
    overrides = set(parser.parse_args(arguments).overrides)
    return [readable(argument) if argument in overrides else argument for argument in arguments]


def unsupported() -> UserError | None:
    """An error if eyegender cannot run on this system or in this folder."""
    return _unsupported_system() or _unsupported_folder()


def _unsupported_system() -> UserError | None:
    """An error on Windows: it cannot write at offsets or sync folders, as the caches do."""
    if platform.system() == "Windows":
        return UserError("eyegender runs on Linux and macOS, got Windows; run it in WSL")
    return None


def _unsupported_folder() -> UserError | None:
    """An error if a folder that Hydra puts into the config contains `${`, which begins an interpolation."""
    for folder, what in ((Path.cwd(), "the working folder"), (_PACKAGE, "eyegender's own folder")):
        if "${" in str(folder):
            return UserError(f"{what} must have no ${{ in its path (Hydra would resolve it), got {folder}; rename it")
    return None


def _wants_traceback() -> bool:
    """Whether the user set HYDRA_FULL_ERROR=1 to see where an error was raised."""
    return bool(os.environ.get("HYDRA_FULL_ERROR")) and _SET_BY_US not in os.environ


def is_user_mistake(error: Exception) -> bool:
    """Whether the user can repair it: a mistake in what was typed, or a disk that cannot be written to."""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return True
    return (
        isinstance(error, OSError)
        and error.errno in _UNWRITABLE
        and (error.filename is not None or is_disk_full(error))
    )


def is_raised_by_hydra(error: Exception) -> bool:
    """Whether Hydra itself fails on an argument; its parser accepts more than its later code can handle."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = bool(frames) and bool({"hydra", "omegaconf", "antlr4"} & set(Path(frames[-1].filename).parts))
    return inside or _is_raised_by_logging(error)


def _is_raised_by_logging(error: BaseException) -> bool:
    """Whether Python's logging refuses the configuration that Hydra passes to it."""
    return any(frame.name == "configure_log" for frame in traceback.extract_tb(error.__traceback__))


def error_message(error: Exception, files: Sequence[Path] = ()) -> str:
    """A user's mistake in one line without secrets.

    Args:
        error: the mistake.
        files: the YAML files with the known keys, for suggestions.
    """
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        # The error of a disk that fills up while a file is written names no file; Hydra's own are written first.
        name = error.filename or (HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else Path.cwd())
        message = f"cannot write {name} ({error.strerror}); make room there or choose another folder, see hydra.run.dir"
    else:
        message = str(error) if isinstance(error, UserError) else _hydra_message(error, files)
        message += install_hint(message)
    return one_line(redact(message))


def failure_line(error: Exception) -> str:
    """What ended a command, in one line without secrets: a user's mistake as it is printed, or a bug with its type."""
    if is_user_mistake(error):
        return error_message(error)
    return one_line(redact(f"{type(error).__name__}: {error}"))


def print_error(error: Exception, files: Sequence[Path] = ()) -> None:
    """Print a user's mistake to standard error: its `error_message`, and the details of a `UserError`."""
    print(f"eyegender: {error_message(error, files)}", file=sys.stderr)
    for detail in getattr(error, "details", ()):
        print(f"  {redact(detail)}", file=sys.stderr)


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print Python's own traceback without secrets."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _hydra_message(error: BaseException, files: Sequence[Path]) -> str:
    """A composition error of Hydra in one line, with a suggestion for a misspelt key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    for position, line in enumerate(lines):
        if line.startswith("Available options in"):
            options = [option for option in lines[position + 1 :] if not option.startswith("_")]
            lines = [*lines[:position], f"known: {', '.join(options)}"]
            break
    if _is_raised_by_logging(error):
        lines = [
            f"hydra.job_logging and hydra.hydra_logging must be what logging.config accepts, got {error}; correct them"
        ]
    # Our configs accept no further keys, although Hydra suggests to append them.
    noise = ("full_key:", "object_type=", "reference_type=", "See https://", "To append to your config")
    message = "; ".join(line.rstrip(".") for line in lines if not line.startswith(noise))
    message = message or f"Hydra cannot compose a config from these arguments ({type(error).__name__}); correct them"
    unknown = re.search(r"Could not override '([\w./@]+)'", message)
    if "did you mean" in message or "To append to your default list" in message:
        unknown = None
    return f"{message}{suggest_key(unknown[1], files, config_folder('conf'))}" if unknown else message


def quiet_libraries() -> None:
    """Silence remarks of libraries on hardware, tips and versions, which would bury the few lines of a run."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that there is no GPU if steps are compiled for a CPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
