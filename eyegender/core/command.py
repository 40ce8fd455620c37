"""How every command starts: composes its config with Hydra, and tells a user's mistake in one line."""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import signal
import sys
import traceback
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eyegender.core.command_line import prepared
from eyegender.core.disk_errors import is_full
from eyegender.core.errors import UserError, one_line
from eyegender.core.extras import advice
from eyegender.core.known_keys import suggestion
from eyegender.core.objectives import register_resolvers
from eyegender.core.secrets import hide_in_logs, redact
from eyegender.core.standard_streams import log_in_utf8, lost_output, make_unfailing
from hydra_plugins.optuna_study import learn_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

USER_MISTAKE = 2

_OURS = "EYEGENDER_SET_FULL_ERROR"  # says that HYDRA_FULL_ERROR was not the user's wish
UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}

_LOST = (
    "standard output (stdout) must take what a command prints, got: {}; all else was done, so free its disk or send it "
    "elsewhere"
)
_PACKAGE = Path(__file__).parents[1]


def config_folder(name: str) -> Path:
    """`conf` or `sweeps`: inside the package in a wheel, beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def command(
    config_name: str, groups: tuple[str, ...] | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Turn a task into a command that never shows a traceback for a user's mistake.

    `groups` are the only config groups that the command sees; None is all of `conf/`. Where `conf/` has a group of a
    key's name, `model` say, Hydra takes `model=X` for the choice of a file: a command whose `model` is a plain value
    must not see that group.

    The task gets the composed config; it raises `UserError` for what the user can repair. Anything else is a bug, and
    bugs keep their traceback. Exit codes: 0, 2 for a user's mistake, 1 for a bug or failure, 130 and 143 for signals.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        begun = False

        @wraps(task)
        def job(cfg: DictConfig) -> Any:
            nonlocal begun
            begun = True
            learn_secrets(cfg)
            hide_in_logs()
            log_in_utf8()
            try:
                return task(cfg)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN or not is_users(error) or wants_traceback():
                    raise  # a sweeper records it as the trial's reason
                print_error(error)
                raise SystemExit(USER_MISTAKE) from None

        @wraps(task)
        def main() -> None:
            nonlocal begun
            begun = False
            make_unfailing()
            register_resolvers()
            if (mistake := _unusable_system() or _unusable_folder()) is not None:
                print_error(mistake)
                sys.exit(USER_MISTAKE)
            register_sweeps() if groups is None else register_alone(config_name, groups)
            # Hydra would copy all registered configs for each group that --help lists, and only ever reads them.
            ConfigStore.instance().__deepcopy__ = lambda _: ConfigStore.instance()  # type: ignore[attr-defined]
            sys.excepthook = _print_bug
            logging.raiseExceptions = False  # a log file on a full disk would print a traceback for every line
            # An experiment may be named either way; Hydra itself would refuse the plus for a group with a default.
            sys.argv[1:] = [a.removeprefix("+") if a.startswith("+experiment=") else a for a in sys.argv[1:]]
            if not wants_traceback():
                # Otherwise Hydra prints and exits itself. Processes that we start inherit both.
                os.environ.update({"HYDRA_FULL_ERROR": "1", _OURS: "1"})
            try:
                sys.argv[1:] = prepared(sys.argv[1:])
                folder = str(config_folder("conf")) if groups is None else None
                hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(job)()
            except Exception as error:
                if not (is_users(error) or (not begun and _is_hydras(error))) or wants_traceback():
                    raise
                print_error(error, config_files(config_name, groups))
                sys.exit(USER_MISTAKE)
            except KeyboardInterrupt:
                print("eyegender: interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            if lost := lost_output():
                reason = lost.strerror or type(lost).__name__
                print(f"eyegender: {_LOST.format(reason)}", file=sys.stderr)
                if config_name != "train":  # that leaves a run; of others the text may be all that was asked for
                    sys.exit(USER_MISTAKE)

        return main

    return decorate


def _unusable_system() -> UserError | None:
    """Of Windows: the caches write at offsets and sync folders, in ways that only Linux and macOS have."""
    if platform.system() == "Windows":
        return UserError("eyegender runs on Linux and macOS, got Windows; run it in WSL")
    return None


def _unusable_folder() -> UserError | None:
    """Hydra puts these folders into the config, where `${` begins an interpolation."""
    for folder, what in ((Path.cwd(), "the working folder"), (_PACKAGE, "eyegender's own folder")):
        if "${" in str(folder):
            return UserError(f"{what} must have no ${{ in its path (Hydra would resolve it), got {folder}; rename it")
    return None


def wants_traceback() -> bool:
    """Whether the user set HYDRA_FULL_ERROR=1 to see where a mistake came up."""
    return bool(os.environ.get("HYDRA_FULL_ERROR")) and _OURS not in os.environ


def is_users(error: Exception) -> bool:
    """Whether the user can repair it: a mistake in what was typed, or a disk that cannot be written."""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return True
    return isinstance(error, OSError) and error.errno in UNWRITABLE and (error.filename is not None or is_full(error))


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra stumbled over an argument: not all that its parser takes does it expect."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = bool(frames) and bool({"hydra", "omegaconf", "antlr4"} & set(Path(frames[-1].filename).parts))
    return inside or _is_of_logging(error)


def _is_of_logging(error: BaseException) -> bool:
    """Whether it comes from Python's logging, as Hydra sets it up by the config."""
    return any(frame.name == "configure_log" for frame in traceback.extract_tb(error.__traceback__))


def print_error(error: Exception, files: Sequence[Path] = ()) -> None:
    """Print one line (and the details that a `UserError` brings) to standard error; `files` hold the known keys."""
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        # Who fills a disk in the middle of a file is told no name; Hydra's own files are what is written first.
        name = error.filename or (HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else Path.cwd())
        message = f"cannot write {name} ({error.strerror}); free or choose another place, see hydra.run.dir"
    else:
        message = str(error) if isinstance(error, UserError) else _hydra_line(error, files)
        message += advice(message)
    print(f"eyegender: {one_line(redact(message))}", file=sys.stderr)
    for detail in getattr(error, "details", ()):
        print(f"  {redact(detail)}", file=sys.stderr)


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own traceback, without secrets."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def config_files(config_name: str, groups: tuple[str, ...] | None) -> list[Path]:
    """The YAML files that a command may be composed of."""
    conf = config_folder("conf")
    folders = [conf / group for group in groups] if groups is not None else [p for p in conf.iterdir() if p.is_dir()]
    return [conf / f"{config_name}.yaml", *(path for folder in folders for path in sorted(folder.glob("*.yaml")))]


def register_sweeps() -> None:
    """Make `sweeps/` a config group, although it does not lie in `conf/`, and the resolvers known that it uses."""
    register_resolvers()
    store = ConfigStore.instance()
    for path in sorted(config_folder("sweeps").glob("*.yaml")):
        store.store(group="sweeps", name=path.stem, node=OmegaConf.load(path), package="_global_", provider=str(path))


def register_alone(config_name: str, groups: tuple[str, ...]) -> None:
    """Give Hydra one config of `conf/` and these groups, and neither the folder itself nor that of `--config-dir`."""
    store, conf = ConfigStore.instance(), config_folder("conf")
    folders = [conf / group for group in groups]
    own = _take_config_dir()
    if own is not None:
        folders += [own / group for group in groups]
    for path in [conf / f"{config_name}.yaml", *(path for folder in folders for path in sorted(folder.glob("*.yaml")))]:
        group = None if path.parent == conf else path.parent.name
        store.store(group=group, name=path.stem, node=OmegaConf.load(path), provider=str(path))


def _take_config_dir() -> Path | None:
    """The folder that the command line gives with `--config-dir`, which leaves the command line."""
    for place, argument in enumerate(sys.argv):
        flag, equals, value = argument.partition("=")
        if flag in {"--config-dir", "-cd"} and (equals or place + 1 < len(sys.argv)):
            folder = Path(value if equals else sys.argv[place + 1])
            if folder.is_dir():  # or Hydra says what is wrong
                del sys.argv[place : place + (1 if equals else 2)]
                return folder
    return None


def _hydra_line(error: BaseException, files: Sequence[Path]) -> str:
    """Hydra's composition errors in one line, with the nearest known key where one was misspelt."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    for position, line in enumerate(lines):
        if line.startswith("Available options in"):
            options = [option for option in lines[position + 1 :] if not option.startswith("_")]
            lines = [*lines[:position], f"known: {', '.join(options)}"]
            break
    if _is_of_logging(error):
        lines = [
            f"hydra.job_logging and hydra.hydra_logging must be what logging.config takes, got {error}; correct them"
        ]
    # A config takes no further keys, whatever Hydra says of appending them.
    noise = ("full_key:", "object_type=", "reference_type=", "See https://", "To append to your config")
    message = "; ".join(line.rstrip(".") for line in lines if not line.startswith(noise))
    message = message or f"Hydra makes no config of these arguments ({type(error).__name__}); correct them"
    unknown = re.search(r"Could not override '([\w./@]+)'", message)
    if "did you mean" in message or "To append to your default list" in message:
        unknown = None
    return f"{message}{suggestion(unknown[1], files, config_folder('conf'))}" if unknown else message


def quiet_libraries() -> None:
    """Libraries' own remarks on hardware, tips and versions would drown the few lines that a run prints."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Where steps are compiled for a CPU it warns that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
