"""A network as two plain files, weights and card: nothing in them can run code when they are read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.heads import build_head
from eyegender.models.network import Network

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.data.decode import Color

WEIGHTS, CARD = "network.safetensors", "card.json"
MAX_SIZE = 4096  # as `data.size`


@dataclass(frozen=True)
class Card:
    """What must be known to build the network again and to feed it.

    Args:
        backbone: dotted path of a `Backbone` subclass.
        head: name of a head.
        depth: number of stages that were trained.
        size: side of the input in pixels.
        color: `gray` or `rgb`.
        classes: class names of labels 0 and 1.
        flip_average: average the logits of a picture and its mirror image.
    """

    backbone: str
    head: str
    depth: int
    size: int
    color: Color
    classes: tuple[str, str]
    flip_average: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError: a card may come from a stranger, whose picture size must not fill this machine."""
        whole = all(type(number) is int for number in (self.depth, self.size))
        texts = all(isinstance(text, str) for text in (self.backbone, self.head, *self.classes))
        if not (whole and texts and 0 <= self.depth < 1000 and 1 <= self.size <= MAX_SIZE and len(self.classes) == 2):
            raise ValueError(f"not a card: {self}")
        if self.color not in {"gray", "rgb"}:
            raise ValueError(f"color must be gray or rgb, got {self.color!r}")


def save_network(network: Network, card: Card, folder: Path) -> None:
    """Write `network` and `card` into `folder`, which must exist."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2))


def load_network(folder: Path) -> tuple[Network, Card]:
    """The network in eval mode, and its card.

    Raises:
        UserError: the files are missing, damaged or do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        fields = json.loads((folder / CARD).read_text())
        card = Card(**{**fields, "classes": tuple(fields["classes"])})
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} holds no readable network ({error}); log the model again") from error
    network = untrained(card)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(f"{folder}: the weights do not fit {card.backbone} ({fault}); log the model again") from error
    return network, card


def untrained(card: Card) -> Network:
    """The card's network with random weights, in eval mode.

    Raises:
        UserError: the card names a class or a head that is not allowed or not known.
    """
    backbone = load_class(card.backbone, Backbone)()
    network = Network(backbone, build_head(card.head, backbone.channels, dropout=0.0), card.depth)
    network.eval()
    network.use_channels_last()
    return network
