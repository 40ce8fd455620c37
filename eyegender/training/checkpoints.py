"""Checkpoints that a kill cannot damage and that cannot run code when they are loaded; the best one survives a move."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError
from eyegender.training.frozen_weights import FROZEN_FILE, join, split_off, store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Checkpoint = dict[str, Any]

log = logging.getLogger("eyegender")


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint completely or not at all, and loads tensors and plain data only.

    Args:
        frozen: names of weights that do not change in the run; they are stored once, beside the checkpoints. Empty for
            checkpoints that hold everything.
    """

    def __init__(self, frozen: Collection[str] = ()) -> None:
        super().__init__()
        self.frozen = frozen
        self._stored: dict[Path, str] = {}  # hash of the frozen weights by the folder in which they are stored

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if storage_options is not None:
            raise TypeError("storage_options is not supported")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path, "wb") as file:
                torch.save(self._without_frozen(checkpoint, path.parent), file)
        except (OSError, RuntimeError) as error:
            resume = f", then resume with ckpt_path={path}" if path.is_file() else ""
            raise UserError(
                f"cannot write checkpoint {path} of {_size(checkpoint):,} bytes ({_reason(error)}); "
                f"free some disk or set hydra.run.dir=FOLDER{resume}"
            ) from error

    def _without_frozen(self, checkpoint: Checkpoint, folder: Path) -> Checkpoint:
        if not self.frozen:
            return checkpoint
        if folder not in self._stored:
            self._stored[folder] = store({name: checkpoint["state_dict"][name] for name in self.frozen}, folder)
        return split_off(checkpoint, self.frozen, self._stored[folder])

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,  # noqa: ARG002 - always true
    ) -> Checkpoint:
        return load_checkpoint(Path(path), map_location)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which also keeps the best checkpoint of a run that resumes in another folder.

    Args:
        resumed: checkpoint from which the run resumes, or None. The best checkpoint is looked for beside it, and where
            it was written.
        **options: arguments of ModelCheckpoint.
    """

    def __init__(self, resumed: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is None:
            return  # no epoch had finished
        found = self._find(Path(state_dict["best_model_path"]), score)
        if found is None:
            log.warning(
                "the best.ckpt of the best epoch so far (%s %.4f) is missing; the best of the remaining epochs counts",
                self.monitor,
                float(score),
            )
            return
        assert self.dirpath is not None
        path = Path(self.dirpath) / found.name
        if path.resolve() != found.resolve():
            SafeCheckpointIO().save_checkpoint(load_checkpoint(found), path)
        self.best_model_score, self.best_model_path = score, str(path)
        self.best_k_models, self.kth_best_model_path, self.kth_value = {str(path): score}, str(path), score

    def _find(self, recorded: Path, score: Any) -> Path | None:
        """The checkpoint with this score: of the same name beside the resumed one, or where it was written."""
        beside = [] if self.resumed is None else [self.resumed.with_name(recorded.name)]
        for path in [*beside, recorded]:
            try:
                found = load_checkpoint(path)["callbacks"][self.state_key]["best_model_score"]
            except (UserError, KeyError):
                continue
            if found is not None and bool(found == score):
                return path
        return None


def load_checkpoint(path: Path, map_location: Any = "cpu") -> Checkpoint:
    """The checkpoint at `path`, with the frozen weights that are stored beside it.

    Raises:
        UserError: the file is missing, damaged or not a checkpoint, or holds more than tensors and plain data. The
            message names an intact checkpoint beside it, if there is one.
    """
    checkpoint = _read(path, map_location)
    try:
        join(checkpoint, path.parent, partial(_read, map_location=map_location))
    except (ValueError, TypeError) as error:
        raise UserError(f"checkpoint {path} does not fit: {error}; {_alternative(path)}") from error
    return checkpoint


def _read(path: Path, map_location: Any = "cpu") -> Checkpoint:
    if not path.is_file():
        if path.name == FROZEN_FILE:
            raise UserError(f"the checkpoints in {path.parent} need {FROZEN_FILE}; copy it there from the run's folder")
        raise UserError(f"no checkpoint {path}; give the path of a last.ckpt or best.ckpt")
    if member := _damaged_member(path):
        raise UserError(f"checkpoint {path} is damaged ({member} changed on disk); {_alternative(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about untrusted pickles, which are refused below
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        whole = zipfile.is_zipfile(path)
        fault = "holds more than tensors and plain data, and loading it could run its code" if whole else "is damaged"
        raise UserError(f"checkpoint {path} {fault}; {_alternative(path)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError(f"checkpoint {path} is damaged ({_reason(error)}); {_alternative(path)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of a training run; {_alternative(path)}")
    return checkpoint


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The intact checkpoint from which the run in this folder can resume: last.ckpt, else best.ckpt, else None."""
    for name, otherwise in (("last", "trying best.ckpt"), ("best", "the run starts from the beginning")):
        path = output_dir / "checkpoints" / f"{name}.ckpt"
        if not path.is_file():
            continue
        try:
            load_checkpoint(path)
        except UserError as error:
            log.warning("%s; %s", error, otherwise)
        else:
            return path
    return None


def run_folder(checkpoint: Path) -> Path:
    """The output folder of the run that wrote a checkpoint."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _alternative(path: Path) -> str:
    siblings = sorted(p for p in path.parent.glob("*.ckpt") if p != path and zipfile.is_zipfile(p))
    intact = [sibling for sibling in siblings if not _damaged_member(sibling)]
    return f"resume from {intact[-1]}" if intact else "start the run again from the beginning"


def _damaged_member(path: Path) -> str | None:
    """The first member of the file that differs from its checksum, which torch does not check."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, EOFError):
        return None  # truncated, or another format: loading it raises the error
    except (zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        return _reason(error)


def _size(content: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences, about the size of their file."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    if isinstance(content, Mapping):
        return sum(map(_size, content.values()))
    return sum(map(_size, content)) if isinstance(content, list | tuple) else 0


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
