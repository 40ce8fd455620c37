"""Initial weights of a backbone: published weights from a library's cache, a file, or random weights."""

from __future__ import annotations

import hashlib
import logging
import pickle
import urllib.request
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eyegender.core.errors import UserError
from eyegender.core.schema import NO_WEIGHTS

if TYPE_CHECKING:
    from eyegender.models.backbone import Backbone

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0  # 'auto' must not delay a run on a machine without network


@dataclass(frozen=True)
class Weights:
    """Origin of a backbone's initial weights.

    Args:
        kind: `imagenet`, `file`, `random`, the name of published weights or, in a resumed run, `checkpoint`.
        source: an address, a path, or `random`.
        sha256: hash of the names and contents of the tensors; empty for random weights.
        fallback: `auto` found no ImageNet weights and chose random ones.
    """

    kind: str
    source: str
    sha256: str = ""
    fallback: bool = False


class Pretrained(ABC):
    """Published weights of a network."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where they are published; empty if nowhere."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder on this machine that a file of them is put into."""

    @abstractmethod
    def is_cached(self) -> bool:
        """Whether they are on this machine."""

    @abstractmethod
    def load(self) -> tuple[dict[str, Tensor], str]:
        """The state dict and its digest; they are downloaded if they are not on this machine.

        Raises:
            OSError, RuntimeError, ValueError: they cannot be downloaded.
        """


class DownloadedFile(Pretrained):
    """Weights in one file at an address, which torch downloads and keeps.

    Args:
        address: the address; the name of the file ends with a part of its checksum, such as `-b0353104`.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def address(self) -> str:
        return self._address

    @property
    def folder(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints"

    @property
    def path(self) -> Path:
        return self.folder / self.address.rsplit("/", 1)[-1]

    def is_cached(self) -> bool:
        return self.path.exists()

    def load(self) -> tuple[dict[str, Tensor], str]:
        if not self.is_cached():
            self.folder.mkdir(parents=True, exist_ok=True)
            # torch downloads to a temporary file and checks the hash in the name.
            torch.hub.download_url_to_file(self.address, str(self.path), hash_prefix=self.path.stem.rsplit("-", 1)[-1])
        return _cached_state(self.path)


def load_weights(backbone: Backbone, choice: str | None) -> Weights:
    """Load initial weights into `backbone`, in place.

    Args:
        backbone: a new backbone with random weights.
        choice: `imagenet`, `auto`, the name of published weights that the library has for this network, None for random
            weights, or the path of a `.pth` or `.safetensors` state dict with the library's keys.

    Raises:
        UserError: the file is missing, is not a state dict or lacks a key; or the weights are not available.
    """
    if choice is None:
        return Weights("random", "random")
    pretrained = backbone.pretrained(choice)
    if pretrained is None:
        backbone.check_weights(choice)
        path = Path(choice).expanduser()
        state, content = _cached_state(path)
        _fill(backbone, state, str(path))
        return Weights("file", str(choice), content)
    if choice == "auto":
        if not pretrained.is_cached() and not _reachable(pretrained.address):
            log.warning(
                "NO PRE-TRAINED WEIGHTS: %s starts from random weights, because the ImageNet weights are neither in "
                "%s nor downloadable. Results will be far worse than with fine-tuning; set model.weights to a file, or "
                "to null if you want random weights.",
                backbone.name,
                pretrained.folder,
            )
            return Weights("random", "random", fallback=True)
        choice = "imagenet"
    try:
        state, content = pretrained.load()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"model.weights={choice}: cannot download {backbone.name}'s weights ({_first_line(error)}); on a "
            f"machine with network fetch {pretrained.address} and put it into {pretrained.folder}, or set "
            "model.weights=FILE, or model.weights=null for random weights"
        ) from error
    _fill(backbone, state, pretrained.address)
    return Weights(choice, pretrained.address, content)


def _cached_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict and its digest; an unchanged file is read once per process, so that trials of a sweep share it."""
    if not path.is_file():
        return read_state_dict(path), ""  # which raises the error
    about = path.stat()
    return _read_once(path.absolute(), about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=2)
def _read_once(path: Path, _changed: int, _size: int) -> tuple[dict[str, Tensor], str]:
    state = read_state_dict(path)
    return state, digest(state)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` or `.pth` file; code inside a `.pth` file is never run.

    Raises:
        UserError: the file is missing, damaged, or not a flat mapping from names to tensors.
    """
    if not path.is_file():
        raise UserError(NO_WEIGHTS.format(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about untrusted pickles, which are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.weights: {path} holds more than tensors and is not loaded, since that would run its code; "
            "save it again as a state dict"
        ) from error
    except Exception as error:
        raise UserError(
            f"model.weights: {path} cannot be read ({_reason(error)}); download or save it again"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"model.weights: {path} is not a state dict (names to tensors); save model.state_dict()")
    return dict(state)


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes, types and contents, in order of name."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _fill(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    own = backbone.stages.state_dict()
    wanted = {theirs: own[mine] for mine, theirs in backbone.library_keys.items()}
    given = {
        name: tensor
        for name, tensor in backbone.current_keys(state).items()
        if name not in backbone.other_keys and not name.startswith(backbone.classifier_prefixes)
    }
    # Files from old versions of torch lack the counters of batches, which are not used here.
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    misshapen = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    unknown = [k for k in given if k not in wanted]
    faults = [
        *(f"{k} is missing" for k in missing),
        *(f"{k} is {tuple(given[k].shape)}, not {tuple(wanted[k].shape)}" for k in misshapen),
        *(f"{k} is unknown" for k in unknown),
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(
            f"model.weights: {source} does not fit {backbone.name}: {faults[0]}{more}; "
            f"give a state dict of {backbone.library}'s {backbone.name}"
        )
    zero = torch.zeros((), dtype=torch.int64)
    found = {mine: given.get(name, zero) for mine, name in backbone.library_keys.items()}
    backbone.stages.load_state_dict(found, strict=False)  # stages may have more than the library's network


def _reachable(address: str) -> bool:
    if not address:
        return False
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - a library's own https address
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS):  # noqa: S310
            return True
    except OSError:
        return False


def _reason(error: Exception) -> str:
    """What a library says about a file; of a lookup that failed inside of it, only that the format is another one."""
    line = _first_line(error)
    known = " " in line and not isinstance(error, LookupError)
    return line if known else "no file that torch.save or safetensors wrote"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
