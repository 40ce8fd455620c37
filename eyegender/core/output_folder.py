"""Where a command writes: never over what is there already, and never into the folder of a training run."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd

from eyegender.core.errors import UserError
from eyegender.tracking.journal import JOURNAL

# What a training run alone leaves, some of it from its first second on.
_OF_A_RUN = (JOURNAL, "checkpoints", ".hydra")


def new_file(given: str, key: str) -> Path:
    """The file at `given`, relative to the working directory, which must not be there yet.

    Raises:
        UserError: it is there, its folder cannot be written to, or belongs to a training run.
    """
    path = _place(given, key)
    # A pipe or a terminal takes what is written and loses nothing.
    if path.is_dir() or path.is_file() or path.is_symlink():
        raise UserError(f"{key} must be a file that is not there yet, got {path}; set another {key}=")
    return path


def new_folder(given: str, key: str, *names: str) -> Path:
    """The folder at `given`, relative to the working directory, which must hold none of these files or folders yet.

    Args:
        given: as typed.
        key: that it was given by.
        names: of what will be written; none where all of it is the command's.

    Raises:
        UserError: as `new_file`.
    """
    path = _place(given, key)
    if path.exists() and not path.is_dir():
        raise UserError(f"{key} must be a folder, got the file {path}; set another {key}=")
    inside = {found.name for found in path.iterdir()} if path.is_dir() else set()
    if taken := [name for name in names if name in inside] if names else sorted(inside):
        what = f"without {taken[0]}" if names else "that is empty or not there yet"
        raise UserError(f"{key} must be a folder {what}, got {path}; set another {key}=")
    return path


def _place(given: str, key: str) -> Path:
    path = Path(given).expanduser()
    start = Path(get_original_cwd()) if HydraConfig.initialized() else Path.cwd()
    if start != Path.cwd():  # hydra.job.chdir=true
        path = start / path
    whole = path.absolute().resolve()
    for folder in whole.parents if not whole.is_dir() else (whole, *whole.parents):
        if any((folder / name).exists() for name in _OF_A_RUN):
            raise UserError(f"{key} must lie outside of training runs, got {path} in the run {folder}; set {key}=")
    there = next(place for place in (whole.parent, *whole.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "not writable" if there.is_dir() else "not a folder"
        raise UserError(f"{key} must be where one can write, got {path} ({there} is {what}); set {key}=")
    return path
