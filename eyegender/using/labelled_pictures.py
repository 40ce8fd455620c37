"""The labelled pictures of any data source, decoded as a given model wants them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.data_module import EyesDataModule
from eyegender.data.groups import find_groups
from eyegender.data.pixel_build import open_pixel_store
from eyegender.data.readers import build_reader
from eyegender.data.splits import draw_subset
from eyegender.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.pixel_store import PixelStore
    from eyegender.data.samples import Samples
    from eyegender.schema import DataSection
    from eyegender.serving.saved_network import Card

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledPictures:
    """N readable pictures.

    Args:
        samples: names, labels, digests and attributes.
        persons: N of them, as the source tells or as groups that stand in; None where nobody knows.
        skipped: unreadable pictures, reasons by name.
        store: their pixels at the model's size and colour.
    """

    samples: Samples
    persons: Sequence[str] | None
    skipped: Mapping[str, str]
    store: PixelStore

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (K, C, size, size) of the pictures at `index`."""
        rows = self.store.rows([self.samples.digests[int(i)] for i in index])
        return self.store.read(rows)


def read_pictures(data: DataSection, part: str, seed: int, card: Card) -> LabelledPictures:
    """The pictures of a data source, all of them or one part.

    Args:
        data: the source; its size and colour give way to the model's.
        part: `all`, `train`, `val` or `test`; parts are drawn as training draws them.
        seed: of subset and split, where `data.split.seed` does not say another.
        card: of the model that will see them.

    Raises:
        UserError: the source or a picture cannot be read (`data.on_bad=skip` leaves pictures out).
    """
    if part != "all":
        return _part(data, part, seed, card)
    samples = build_reader(data).read()
    groups = None
    if samples.persons is None and data.split.by == "person":
        groups = find_groups(samples).group
    if data.subset is not None:
        chosen = draw_subset(samples, data.subset.model_dump(), data.split.seed)
        samples, groups = samples.take(chosen), None if groups is None else groups[chosen]
    store = open_pixel_store(samples, card.size, card.color)
    readable = np.array([digest not in store.bad for digest in samples.digests])
    skipped = {
        name: store.bad[digest]
        for name, digest, fine in zip(samples.names, samples.digests, readable, strict=True)
        if not fine
    }
    _judge(skipped, len(samples), data.on_bad)
    if skipped:
        index = np.flatnonzero(readable)
        samples, groups = samples.take(index), None if groups is None else groups[index]
    persons = samples.persons if groups is None else [str(group) for group in groups]
    return LabelledPictures(samples, persons, skipped, store)


def _part(data: DataSection, part: str, seed: int, card: Card) -> LabelledPictures:
    module = EyesDataModule(
        build_reader(data),
        card.size,
        color=card.color,
        subset=data.subset.model_dump() if data.subset else None,
        split_by=data.split.by,
        split_file=data.split.file,
        test_fraction=data.split.test,
        val_fraction=data.split.val,
        split_seed=data.split.seed,
        seed=seed,
        on_bad=data.on_bad,
    )
    module.setup()
    index = module.split.part(part)
    persons = None if module.persons is None else [str(module.persons[int(i)]) for i in index]
    return LabelledPictures(module.samples.take(index), persons, module.skipped, module.store)


def _judge(skipped: Mapping[str, str], total: int, on_bad: str) -> None:
    if not skipped:
        return
    lines = tuple(f"{name}: {reason}" for name, reason in skipped.items())
    if on_bad == "error":
        raise UserError(
            f"every picture must be readable, got {len(skipped)} of {total} that are not ({lines[0]}); repair or "
            "remove them, or set data.on_bad=skip",
            lines,
        )
    log.warning("%d of %d pictures cannot be read and are left out", len(skipped), total)
