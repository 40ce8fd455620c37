"""Checkpoints that a kill cannot damage and that cannot run code when they are loaded."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eyegender.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes aside, syncs and renames: there is always one whole checkpoint. Loads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if storage_options is not None:
            raise TypeError("storage_options is not supported")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except (OSError, RuntimeError) as error:
            aside.unlink(missing_ok=True)
            raise UserError(
                f"cannot write checkpoint {path} ({_reason(error)}); free some disk, then go on from the previous one"
            ) from error

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,  # noqa: ARG002 - never anything else than true
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path), map_location)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint at `path`.

    Raises:
        UserError: missing, damaged, or holding more than tensors and plain data; names a sibling to go on from.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; give the path of a last.ckpt or best.ckpt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a stranger's pickle; it is refused right after
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        whole = zipfile.is_zipfile(path)
        what = "holds more than tensors and plain data, and loading it could run its code" if whole else "is damaged"
        raise UserError(f"checkpoint {path} {what}; {_alternative(path)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} is damaged ({_reason(error)}); {_alternative(path)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of a training run; {_alternative(path)}")
    return checkpoint


def _alternative(path: Path) -> str:
    siblings = sorted(p for p in path.parent.glob("*.ckpt") if p != path and zipfile.is_zipfile(p))
    return f"go on from {siblings[-1]}" if siblings else "start the run anew"


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
