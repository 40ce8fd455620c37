"""The classification networks of torchvision."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from eyegender.models.libraries.library_backbone import Input, LibraryBackbone
from eyegender.models.libraries.stages import NoChainError, has_weights
from eyegender.models.weights import DownloadedFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchvision.models import WeightsEnum

    from eyegender.models.libraries.calls import Call
    from eyegender.models.weights import Pretrained

# Arguments of networks whose defaults have an auxiliary head, which the features do not need.
_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
# torchvision's weights of these two expect -1..1; with them, its networks convert their input, which ours do not.
_OWN_INPUT = (0.5, 0.5, 0.5)
# The published files of the DenseNets have the names of their first version: `denselayer1.norm.1` is `norm1` today.
_OLD_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


class TorchvisionBackbone(LibraryBackbone):
    """A classification network of torchvision, without its classifier."""

    library = "torchvision"
    classifier_prefixes = ("aux1.", "aux2.", "AuxLogits.")

    @classmethod
    def known_names(cls) -> frozenset[str]:
        return _names()

    @classmethod
    def expected_input(cls, name: str, weights: str | None) -> Input:
        entries = _entries(name)
        expected = entries.get(str(weights), entries["DEFAULT"]).transforms()
        if name in _OPTIONS:
            return Input(expected.crop_size[0], _OWN_INPUT, _OWN_INPUT)
        return Input(expected.crop_size[0], tuple(expected.mean), tuple(expected.std))

    @classmethod
    def build(cls) -> nn.Module:
        from torchvision.models import get_model

        network: nn.Module = get_model(cls.name, weights=None, **_OPTIONS.get(cls.name, {}))
        return network

    @classmethod
    def weights_names(cls) -> list[str]:
        return sorted(_entries(cls.name))

    @classmethod
    def pretrained(cls, choice: str) -> Pretrained | None:
        entries = _entries(cls.name)
        if choice in {"auto", "imagenet"}:
            return DownloadedFile(str(entries["DEFAULT"].url))
        return DownloadedFile(str(entries[choice].url)) if choice in entries else None

    @staticmethod
    def current_keys(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {_OLD_KEY.sub(r"\1\2", name): tensor for name, tensor in state.items()}

    @classmethod
    def features(cls, root: Call) -> tuple[list[Call], Tensor]:
        """The chain before the classifier and its pooling, and what the classifier gets."""
        with_parameters = [call for call in root.inner if next(call.module.parameters(), None) is not None]
        classifier = with_parameters[-1]
        chain = root.chained()
        if classifier in chain:
            chain = chain[: chain.index(classifier)]
        end = len(chain)
        while chain and not has_weights(chain[-1].module) and _ends_features(chain[-1]):
            chain.pop()
        if classifier.given is None or not chain:
            raise NoChainError("its first modules do not follow each other")
        left = [call.name for call in root.inner[end : root.inner.index(classifier)] if call in with_parameters]
        if left:
            raise NoChainError(f"between {root.inner[end - 1].name} and {left[0]}, it does more than call modules")
        return chain, classifier.given.tensor


@cache
def _names() -> frozenset[str]:
    import torchvision.models

    return frozenset(torchvision.models.list_models(module=torchvision.models))


@cache
def _entries(name: str) -> dict[str, WeightsEnum]:
    """The network's published weights by their names; `DEFAULT` is another name of the best ones."""
    from torchvision.models import get_model_weights

    return dict(get_model_weights(name).__members__)


def _ends_features(call: Call) -> bool:
    """Whether a module without weights belongs to the classifier: a pool that averages the map, or no map follows."""
    is_map = call.returned is not None and call.returned.tensor.ndim == 4
    return isinstance(call.module, nn.AdaptiveAvgPool2d) or not is_map
