"""The output files and folders of commands: no command overwrites a file or writes into a training run."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd

from eyegender.core.errors import UserError

# Only the folder of a training run contains these, some of them from its first second on.
RUN_FILES = ("tracking.jsonl", "checkpoints", ".hydra")


def new_file(given: str, key: str) -> Path:
    """The file at `given`, relative to the working directory; it must not exist.

    Args:
        given: the path as typed.
        key: the config key that holds it, for the error message.

    Raises:
        UserError: the file exists, or its folder is not writable or belongs to a training run.
    """
    path = _output_path(given, key)
    # Writing to a pipe or a terminal overwrites nothing.
    if path.is_dir() or path.is_file() or path.is_symlink():
        raise UserError(f"{key} must be a file that does not exist, got {path}; set another {key}=")
    return path


def new_folder(given: str, key: str, *names: str) -> Path:
    """The folder at `given`, relative to the working directory; it must not contain any of `names`.

    Args:
        given: the path as typed.
        key: the config key that holds it, for the error message.
        *names: the files and folders to be written; without any, the folder must be empty or not exist.

    Raises:
        UserError: as `new_file`.
    """
    path = _output_path(given, key)
    if path.exists() and not path.is_dir():
        raise UserError(f"{key} must be a folder, got the file {path}; set another {key}=")
    inside = {found.name for found in path.iterdir()} if path.is_dir() else set()
    if taken := [name for name in names if name in inside] if names else sorted(inside):
        what = f"without {taken[0]}" if names else "that is empty or does not exist"
        raise UserError(f"{key} must be a folder {what}, got {path}; set another {key}=")
    return path


def _output_path(given: str, key: str) -> Path:
    path = Path(given).expanduser()
    start = Path(get_original_cwd()) if HydraConfig.initialized() else Path.cwd()
    if start != Path.cwd():  # hydra.job.chdir=true
        path = start / path
    resolved = path.absolute().resolve()
    for folder in resolved.parents if not resolved.is_dir() else (resolved, *resolved.parents):
        if any((folder / name).exists() for name in RUN_FILES):
            raise UserError(f"{key} must lie outside of training runs, got {path} in the run {folder}; set {key}=")
    existing = next(folder for folder in (resolved.parent, *resolved.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "not writable" if existing.is_dir() else "not a folder"
        raise UserError(f"{key} must be in a writable folder, got {path} ({existing} is {reason}); set {key}=")
    return path
