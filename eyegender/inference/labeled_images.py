"""The labelled pictures of any data source, decoded as a given model wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.data_module import EyesDataModule
from eyegender.data.readers import build_reader
from eyegender.inference.class_names import CheckedReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.core.schema import DataSection
    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.samples import Samples
    from eyegender.inference.class_names import ClassNames
    from eyegender.models.saved_network import Card


@dataclass(frozen=True)
class LabeledImages:
    """N readable pictures.

    Args:
        samples: names, labels, digests and attributes.
        persons: N of them, as the source tells or as groups that stand in; None where nobody knows.
        skipped: unreadable pictures, reasons by name.
        conflicts: names of the copies of pictures that lie in both classes, and are not dropped.
        store: their pixels at the model's size and colour.
    """

    samples: Samples
    persons: Sequence[str] | None
    skipped: Mapping[str, str]
    conflicts: Sequence[tuple[str, ...]]
    store: PixelStore

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (K, C, size, size) of the pictures at `index`."""
        rows = self.store.rows([self.samples.digests[int(i)] for i in index])
        return self.store.read(rows)


def read_labeled_images(
    data: DataSection, part: str, seed: int, card: Card, names: ClassNames | None = None
) -> LabeledImages:
    """The pictures of a data source, all of them or one part.

    Args:
        data: the source; its size and colour give way to the model's.
        part: `all`, `train`, `val` or `test`; parts are drawn as training draws them.
        seed: of subset and split, where `data.split.seed` does not say another.
        card: of the model that will see them.
        names: of the classes; None where the data are known to have the model's.

    Raises:
        UserError: the source or a picture cannot be read (`data.on_bad=skip` leaves pictures out), or the classes are
            not the model's.
    """
    reader = build_reader(data)
    module = EyesDataModule(
        reader if names is None else CheckedReader(reader, names),
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
        on_conflict="drop" if data.on_conflict == "drop" else "keep",
    )
    if part == "all":
        module.read(to_split=False)
        index = np.arange(len(module.samples), dtype=np.int64)
    else:
        module.setup()
        index = module.split.part(part)
    samples = module.samples.take(index)
    if names is not None:
        samples = names.relabelled(samples)
    # Both eyes of a face are one person, whoever that is.
    known = module.persons if module.persons is not None else module.samples.files
    persons = None if known is None else [str(known[int(i)]) for i in index]
    here = set(samples.names)
    conflicts = tuple(copies for copies in module.conflicts if here.intersection(copies))
    return LabeledImages(samples, persons, module.skipped, conflicts, module.store)
