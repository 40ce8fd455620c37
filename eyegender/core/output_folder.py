"""The output files and folders of commands: no command overwrites a file or writes into a training run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd

from eyegender.core.errors import UserError

RUN_DIR = "hydra.run.dir"
# Commands that write no files of their own.
_NO_OUTPUT = ("promote", "demo", "sync")
# Only the folder of a training run contains these, some of them from its first second on.
RUN_FILES = ("tracking.jsonl", "checkpoints", ".hydra")


def rename_run_dir(arguments: list[str], config_name: str, *, sweep: bool) -> list[str]:
    """The command line without `hydra.run.dir` where Hydra would ignore it or our commands would.

    In a sweep it becomes `hydra.sweep.dir`, and in a command that has only `output` it becomes that.

    Args:
        arguments: the command line.
        config_name: name of the command.
        sweep: whether the command line starts a sweep.

    Raises:
        UserError: the command line names two folders.
    """
    if config_name in _NO_OUTPUT or (config_name == "train" and not sweep):
        return arguments
    key = "hydra.sweep.dir" if config_name == "train" else "output"
    given = [argument.lstrip("+") for argument in arguments]
    folder = next((argument for argument in reversed(given) if argument.startswith(f"{RUN_DIR}=")), None)
    if folder is None:
        return arguments
    value = folder.partition("=")[2]
    for other in {"output", key}:
        if any(argument.startswith(f"{other}=") and argument != f"{other}={value}" for argument in given):
            raise UserError(f"{other} and {RUN_DIR} must name one folder, got two; give only output={value}")
    kept = [argument for argument in arguments if not argument.lstrip("+").startswith((f"{RUN_DIR}=", f"{key}="))]
    return [*kept, f"{key}={value}"]


def new_file(given: str, key: str, name: str = "", *, overwrite: bool = False) -> Path:
    """The file at `given`, relative to the working directory; without `overwrite` it must not exist.

    Args:
        given: the path as typed.
        key: the config key that holds it, for the error message.
        name: name of the file in the folder, if `given` is a folder: one that exists, or a path without a suffix.
        overwrite: accept a file that exists.

    Raises:
        UserError: the file exists, or its folder is not writable or belongs to a training run.
    """
    path = _output_path(given, key)
    if name and (path.is_dir() or given.endswith("/") or not (path.suffix or path.exists() or path.is_symlink())):
        path /= name
    # Writing to a pipe or a terminal overwrites nothing.
    if path.is_dir() or ((path.is_file() or path.is_symlink()) and not overwrite):
        repair = "" if path.is_dir() else ", or overwrite=true"
        raise UserError(f"{key} must be a file that does not exist, got {path}; set another {key}={repair}")
    return path


def new_folder(given: str, key: str, *names: str, overwrite: bool = False) -> Path:
    """The folder at `given`, relative to the working directory; without `overwrite` it must contain none of `names`.

    Args:
        given: the path as typed.
        key: the config key that holds it, for the error message.
        *names: the files and folders to be written; without any, the folder must be empty or not exist.
        overwrite: accept those that exist; see `remove_old`.

    Raises:
        UserError: as `new_file`.
    """
    path = _output_path(given, key)
    if path.exists() and not path.is_dir():
        raise UserError(f"{key} must be a folder, got the file {path}; set another {key}=")
    _check_can_be_made(path, key)
    if overwrite:
        return path
    inside = {found.name for found in path.iterdir()} if path.is_dir() else set()
    if taken := [name for name in names if name in inside] if names else sorted(inside):
        what = f"without {taken[0]}" if names else "that is empty or does not exist"
        raise UserError(f"{key} must be a folder {what}, got {path}; set another {key}=, or overwrite=true")
    return path


def check_folder(path: Path, key: str) -> None:
    """Refuse a path at which no folder can be made; leaves nothing behind.

    Args:
        path: relative to the working directory.
        key: the config key that holds it, for the error message.

    Raises:
        UserError: there is a file at the path or above it, or its folder does not accept another one.
    """
    try:
        if os.path.lexists(path) and not path.is_dir():
            raise UserError(f"{key} must be a folder, got the file {path}; set another {key}=")
        _check_can_be_made(path, key)
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{key} must be a folder, got {path} ({error.strerror}); set another {key}=") from error


def remove_old(folder: Path, *names: str) -> None:
    """Remove these files and folders right before new ones are written, so that no old figure stays among new ones."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _output_path(given: str, key: str) -> Path:
    path = Path(given).expanduser()
    start = Path(get_original_cwd()) if HydraConfig.initialized() else Path.cwd()
    if start != Path.cwd():  # hydra.job.chdir=true
        path = start / path
    resolved = path.absolute().resolve()
    for folder in resolved.parents if not resolved.is_dir() else (resolved, *resolved.parents):
        if any((folder / name).exists() for name in RUN_FILES):
            raise UserError(f"{key} must lie outside of training runs, got {path} in the run {folder}; set {key}=")
    existing = _nearest_existing(resolved.parent)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "not writable" if existing.is_dir() else "not a folder"
        raise UserError(f"{key} must be in a writable folder, got {path} ({existing} is {reason}); set {key}=")
    _check_can_be_made(resolved.parent, key)
    return path


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _check_can_be_made(path: Path, key: str) -> None:
    """Raises UserError if no folder can be made at a path; some file systems, such as /proc, only say so when asked."""
    path = path.absolute().resolve()
    if path.exists():
        return
    existing = _nearest_existing(path)
    try:
        Path(tempfile.mkdtemp(prefix=".eyegender-", dir=existing)).rmdir()
    except OSError as error:
        reason = "is not a folder" if not existing.is_dir() else f"accepts no folder: {error.strerror}"
        raise UserError(
            f"{key} must be in a writable folder, got {path} ({existing} {reason}); set another {key}="
        ) from error
