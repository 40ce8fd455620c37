"""A network as two plain files, its weights and its specification, and predictions with a network that was read back.

Neither file can run code when it is read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyegender.core.errors import UserError
from eyegender.models.backbone import load_backbone
from eyegender.models.heads import build_head, outputs_for, probabilities_of
from eyegender.models.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.data.decode import Color

WEIGHTS_FILE, SPEC_FILE = "network.safetensors", "card.json"
MAX_SIZE = 4096  # pixels; the limit of `data.size`
MAX_CLASSES = 65_536
BATCH = 256  # images per forward pass of `probabilities`


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a network again and to prepare its input.

    Args:
        backbone: dotted path of a `Backbone` subclass.
        head: name of the head.
        depth: number of stages that were trained, counted from the last one.
        size: side of the square input in pixels, 1..4096.
        color: `gray` for one input channel or `rgb` for three.
        classes: names of the classes in the order of their labels, two or more.
        flip_average: average the logits of an image and its mirror image.
        arguments: arguments of the backbone's class as pairs, in order of their names; see `Backbone.configured`.

    Raises:
        ValueError: a field has the wrong type or is out of range. A specification may come from an untrusted file, and
            its image size must not fill the memory of this machine.
    """

    backbone: str
    head: str
    depth: int
    size: int
    color: Color
    classes: tuple[str, ...]
    flip_average: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        whole = all(type(number) is int for number in (self.depth, self.size))
        texts = all(isinstance(text, str) for text in (self.backbone, self.head, *self.classes))
        if not (whole and texts and 0 <= self.depth < 1000 and 1 <= self.size <= MAX_SIZE):
            raise ValueError(f"not a model specification: {self}")
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"classes must be 2..{MAX_CLASSES} names, got {len(self.classes)}")
        if self.color not in {"gray", "rgb"}:
            raise ValueError(f"color must be gray or rgb, got {self.color!r}")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; `arguments` only if there are any, because earlier versions do not know it."""
        fields = asdict(self)
        arguments = dict(fields.pop("arguments"))
        return {**fields, "arguments": arguments} if arguments else fields

    @property
    def outputs(self) -> int:
        """The number of logits per image: 1 for two classes, else the number of classes."""
        return outputs_for(len(self.classes))

    @property
    def output(self) -> str:
        """What the probabilities are, for people."""
        if self.outputs == 1:
            return f"probability of {self.classes[1]}"
        return f"probabilities of {', '.join(self.classes)}"


def as_pairs(arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments as `ModelSpec` has them, so that it can be hashed; lists become tuples."""
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(arguments.items())
    )


def save_network(network: Network, spec: ModelSpec, folder: Path) -> None:
    """Write the weights and the specification of a network into `folder`, which must exist."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE)
    (folder / SPEC_FILE).write_text(json.dumps(spec.to_json(), indent=2))


def load_network(folder: Path) -> tuple[Network, ModelSpec]:
    """The network in eval mode, and its specification.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the specification.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        spec = parse_spec((folder / SPEC_FILE).read_text())
        state = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} holds no readable network ({error}); log the model again") from error
    network = untrained(spec)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(f"{folder}: the weights do not fit {spec.backbone} ({fault}); log the model again") from error
    return network, spec


def parse_spec(text: str) -> ModelSpec:
    """The specification in the text of a `card.json`; raises ValueError, TypeError or KeyError if there is none."""
    fields = json.loads(text)
    arguments = as_pairs(dict(fields.get("arguments", {})))
    return ModelSpec(**{**fields, "classes": tuple(fields["classes"]), "arguments": arguments})


def untrained(spec: ModelSpec) -> Network:
    """The specified network with random weights, in eval mode.

    Raises:
        UserError: the specification names a class or a head that is unknown or not allowed.
    """
    backbone = load_backbone(spec.backbone, dict(spec.arguments))()
    network = Network(backbone, build_head(spec.head, backbone.channels, 0.0, spec.outputs), spec.depth)
    network.eval()
    network.use_channels_last()
    return network


def logits(network: Network, spec: ModelSpec, pixels: torch.Tensor) -> torch.Tensor:
    """Logits (B,) or (B, K) of uint8 pixels (B, C, S, S), averaged over the mirror images if `spec` asks for it."""
    found: torch.Tensor = network(pixels)
    if spec.flip_average:
        found = (found + network(pixels.flip(3))) / 2
    return found


def probabilities(network: Network, spec: ModelSpec, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities for pixels (N, C, S, S), computed on the network's device.

    Returns:
        Float32 of shape (N,), the probability of label 1, for two classes; of shape (N, K) for K classes.
    """
    device = network.mean.device
    found = [np.zeros((0,) if spec.outputs == 1 else (0, spec.outputs), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(pixels[start : start + BATCH]).to(device)
            found.append(probabilities_of(logits(network, spec, batch)).cpu().numpy())
    return np.concatenate(found)
