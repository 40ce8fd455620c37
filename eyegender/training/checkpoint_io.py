"""Checkpoints that a kill cannot damage and that cannot run code when they are loaded."""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes aside, syncs and renames: there is always one whole checkpoint. Loads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if storage_options is not None:
            raise TypeError("storage_options is not supported")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            previous = f", then go on with ckpt_path={path}" if path.is_file() else ""
            raise UserError(
                f"cannot write checkpoint {path} of {_size(checkpoint):,} bytes ({_reason(error)}); "
                f"free some disk or set hydra.run.dir=FOLDER{previous}"
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
    if member := _changed_member(path):
        raise UserError(f"checkpoint {path} is damaged ({member} changed on disk); {_alternative(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a stranger's pickle; it is refused right after
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        whole = zipfile.is_zipfile(path)
        what = "holds more than tensors and plain data, and loading it could run its code" if whole else "is damaged"
        raise UserError(f"checkpoint {path} {what}; {_alternative(path)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError(f"checkpoint {path} is damaged ({_reason(error)}); {_alternative(path)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of a training run; {_alternative(path)}")
    return checkpoint


def _alternative(path: Path) -> str:
    siblings = sorted(p for p in path.parent.glob("*.ckpt") if p != path and zipfile.is_zipfile(p))
    whole = [sibling for sibling in siblings if not _changed_member(sibling)]
    return f"go on from {whole[-1]}" if whole else "start the run anew"


def _changed_member(path: Path) -> str | None:
    """The first part of the file that differs from its checksum: torch itself would load it without a word."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, EOFError):
        return None  # cut short, or never one: loading it says so
    except (zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        return _reason(error)


def _size(content: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences, more or less the size of their file."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    if isinstance(content, Mapping):
        return sum(map(_size, content.values()))
    return sum(map(_size, content)) if isinstance(content, list | tuple) else 0


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
