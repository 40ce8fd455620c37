"""The networks of timm (PyTorch Image Models), which is the extra `timm`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError
from eyegender.models.libraries.library_backbone import Input, LibraryBackbone, check_known
from eyegender.models.libraries.stages import NoChainError
from eyegender.models.weights import Pretrained, digest

if TYPE_CHECKING:
    from eyegender.models.libraries.calls import Call

EXTRA = "eyegender[timm]"
_FILES = ("model.safetensors", "pytorch_model.bin")  # of a model on the Hub; the first one is preferred


class TimmBackbone(LibraryBackbone):
    """A network of timm, without its classifier. Its name may end with the tag of weights: `resnet50.a1_in1k`."""

    library = "timm"
    packages = ("timm",)
    classifier_prefixes = ()

    @classmethod
    def known_names(cls) -> frozenset[str]:
        return _names()

    @classmethod
    def check_name(cls, name: str) -> None:
        architecture, _, tag = name.partition(".")
        super().check_name(architecture)
        if tag:
            check_known(name, [f"{architecture}.{each}" for each in _tags(architecture)], cls.library)

    @classmethod
    def expected_input(cls, name: str, weights: str | None) -> Input:
        expected = _pretrained_cfg(_with_tag(name, weights))
        return Input(int(expected.input_size[-1]), tuple(expected.mean), tuple(expected.std))

    @classmethod
    def build(cls) -> nn.Module:
        network: nn.Module = _timm().create_model(cls.name)
        return network

    @staticmethod
    def run(network: nn.Module, image: Tensor) -> Any:
        return network.forward_features(image)  # type: ignore[operator]

    @classmethod
    def weights_names(cls) -> list[str]:
        return list(_tags(cls.name.partition(".")[0]))

    @classmethod
    def pretrained(cls, choice: str) -> Pretrained | None:
        if choice in {"auto", "imagenet"} or choice in _tags(cls.name.partition(".")[0]):
            return TimmWeights(_with_tag(cls.name, choice))
        return None

    @classmethod
    def features(cls, root: Call) -> tuple[list[Call], Tensor]:
        """The calls of `forward_features`, and what it returns."""
        chain = root.chained()
        if not root.is_chain:
            if root.returned is None:
                raise NoChainError("its features are not one tensor")
            after = chain[-1].name if chain else "the image"
            raise NoChainError(f"after {after}, its forward pass does more than call one module after the other")
        assert root.returned is not None
        features = root.returned.tensor
        if features.ndim == 4 and features.shape[1] == features.shape[2] != features.shape[3]:
            features = features.permute(0, 3, 1, 2)  # as the stages give it
        return chain, features


class TimmWeights(Pretrained):
    """Published weights of a network of timm, which timm itself downloads and keeps.

    Args:
        name: the network's name, with the tag of the weights unless it has only one.
    """

    def __init__(self, name: str) -> None:
        self.name, self._cfg = name, _pretrained_cfg(name)

    @property
    def address(self) -> str:
        if self._cfg.hf_hub_id:
            from huggingface_hub import hf_hub_url

            return str(hf_hub_url(self._cfg.hf_hub_id, self._cfg.hf_hub_filename or _FILES[0]))
        return str(self._cfg.url or "")

    @property
    def folder(self) -> Path:
        if self._cfg.hf_hub_id:
            from huggingface_hub import constants

            return Path(constants.HF_HUB_CACHE)
        return Path(torch.hub.get_dir()) / "checkpoints"

    def is_cached(self) -> bool:
        if self._cfg.hf_hub_id:
            from huggingface_hub import try_to_load_from_cache

            files = (self._cfg.hf_hub_filename,) if self._cfg.hf_hub_filename else _FILES
            return any(isinstance(try_to_load_from_cache(self._cfg.hf_hub_id, file), str) for file in files)
        return bool(self.address) and (self.folder / self.address.rsplit("/", 1)[-1]).exists()

    def load(self) -> tuple[dict[str, Tensor], str]:
        if not self.address:
            raise RuntimeError(f"timm has no weights for {self.name}")
        state = _timm().create_model(self.name, pretrained=True).state_dict()
        return dict(state), digest(state)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"model=timm needs the package timm; pip install '{EXTRA}'") from error
    return timm


@cache
def _names() -> frozenset[str]:
    return frozenset(_timm().list_models())


@cache
def _tags(architecture: str) -> tuple[str, ...]:
    """The tags of the published weights of a network."""
    found = _timm().list_pretrained(f"{architecture}.*")
    return tuple(name.partition(".")[2] for name in found)


def _with_tag(name: str, weights: str | None) -> str:
    """The name with the tag that `weights` is; with its own if `weights` is something else."""
    architecture = name.partition(".")[0]
    return f"{architecture}.{weights}" if weights in _tags(architecture) else name


def _pretrained_cfg(name: str) -> Any:
    return _timm().get_pretrained_cfg(name)
