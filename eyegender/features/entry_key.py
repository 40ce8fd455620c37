"""What an entry of the store is called: a hash of everything that its numbers depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.data.pixel_cache import FORMAT as PIXEL_FORMAT
from eyegender.features.store import FORMAT
from eyegender.models.weights import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.features.views import Views
    from eyegender.models.network import Network


@dataclass(frozen=True)
class EntryFacts:
    """What the entries of one run have in common.

    Args:
        backbone: its name.
        stages: per cut, 0 .. number of stages, a hash of all weights and buffers before it.
        normalisation: mean and std.
        size: side of the pictures in pixels.
        color: `gray` or `rgb`.
        dtype: of the stored numbers.
        computed: what they are computed in.
    """

    backbone: str
    stages: tuple[str, ...]
    normalisation: str
    size: int
    color: str
    dtype: str
    computed: str

    def key(self, cut: int, *, pooled: bool, digests: Sequence[str], views: Views) -> str:
        """32 hex digits for these pictures at this cut."""
        place = (FORMAT, PIXEL_FORMAT, self.backbone, cut, "pooled" if pooled else "map", self.stages[cut])
        how = (self.normalisation, self.size, self.color, self.dtype, self.computed, views.told)
        key = hashlib.sha256(repr((place, how)).encode())
        for digest_ in digests:
            key.update(b"\n" + digest_.encode())
        return key.hexdigest()[:32]


def chained_digests(network: Network) -> tuple[str, ...]:
    """Per cut 0 .. number of stages: a hash of the stages before it, their order and content."""
    digests = [hashlib.sha256(b"eyegender stages").hexdigest()]
    for stage in network.stages:
        # The counter of batches seen has no say in what a stage computes.
        state = {k: v for k, v in stage.state_dict().items() if not k.endswith("num_batches_tracked")}
        digests.append(hashlib.sha256(f"{digests[-1]} {stage} {digest(state)}".encode()).hexdigest())
    return tuple(digests)
