"""The labeled images of any data source, decoded at a model's size and color and labeled as the model's classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError
from eyegender.data.data_module import EyesDataModule
from eyegender.data.readers import build_reader, split_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.core.schema import DataSection
    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.readers import Reader, Samples
    from eyegender.models.saved_network import ModelSpec


@dataclass(frozen=True)
class ClassMapping:
    """Maps the class names of some data to those of a model: names decide, never their order.

    Args:
        model: the model's class names in the order of their labels.
        renamed: the model's name for each class that the data calls differently.

    Example:
        >>> ClassMapping(("female", "male"), {"women": "female", "men": "male"}).check(("men", "women"))
    """

    model: tuple[str, ...]
    renamed: Mapping[str, str]

    def check(self, data: tuple[str, ...]) -> None:
        """Raises UserError if these classes of the data are not those of the model."""
        unknown = [name for name in self.renamed if name not in data]
        if unknown or sorted(self._mapped(data)) != sorted(self.model):
            raise UserError(
                f"the data must have the model's classes, {_enumerated(self.model)}, got {_enumerated(data)}"
                f"{f' with classes={dict(self.renamed)}' if self.renamed else ''}; {self._repair(data)}"
            )

    def _repair(self, data: tuple[str, ...]) -> str:
        """What to do about data with other classes: equal names stay, and no pair of names is guessed."""
        if set(data) == set(self.model):
            return "remove classes=, because these names are already the model's"
        if len(data) != len(self.model):
            missing = [name for name in self.model if name not in self._mapped(data)]
            unknown = [name for name in data if self.renamed.get(name, name) not in self.model]
            what = [f"{_enumerated(tuple(missing))} missing" if missing else "",
                    f"{_enumerated(tuple(unknown))} unknown to the model" if unknown else ""]  # fmt: skip
            return f"give other data ({', '.join(filter(None, what)) or 'two classes have one name'}) or another model"
        kept = {theirs: ours for theirs, ours in self.renamed.items()
                if theirs in data and theirs not in self.model and ours in self.model and ours not in data}  # fmt: skip
        if len(set(kept.values())) < len(kept):
            kept = {}
        theirs = [name for name in data if name not in self.model and name not in kept]
        ours = [name for name in self.model if name not in data and name not in kept.values()]
        pairs = kept | (dict(zip(theirs, ours, strict=True)) if len(ours) == 1 else dict.fromkeys(theirs, "NAME"))
        names = f", each NAME one of {_enumerated(tuple(ours))}" if len(ours) > 1 else ""
        example = ", ".join(f"{name}: {pair}" for name, pair in pairs.items())
        return f"give other data or another model, or map the class names with 'classes={{{example}}}'{names}"

    def relabel(self, samples: Samples) -> Samples:
        """The samples with the model's class names and labels."""
        self.check(samples.classes)
        label = np.array([self.model.index(name) for name in self._mapped(samples.classes)], samples.labels.dtype)
        return replace(samples, classes=self.model, labels=label[samples.labels])

    def _mapped(self, data: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.renamed.get(name, name) for name in data)


def _enumerated(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@dataclass(frozen=True)
class _CheckedReader:
    """A reader that checks the classes before an image is decoded."""

    reader: Reader
    mapping: ClassMapping

    def read(self) -> Samples:
        samples = self.reader.read()
        self.mapping.check(samples.classes)
        return samples


@dataclass(frozen=True)
class LabeledImages:
    """N readable images.

    Args:
        samples: names, labels, digests and attributes of the images.
        persons: the person in each image, or its group where the source names no persons; None if both are unknown.
        skipped: the reason why an image is unreadable, by name.
        conflicts: names of the copies of each image that is in several classes and is not dropped.
        store: the pixels of the images at the model's size and color.
    """

    samples: Samples
    persons: Sequence[str] | None
    skipped: Mapping[str, str]
    conflicts: Sequence[tuple[str, ...]]
    store: PixelStore

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (K, C, size, size) of the images at `index`."""
        rows = self.store.rows([self.samples.digests[int(i)] for i in index])
        return self.store.read(rows)


def read_labeled_images(
    data: DataSection, split: str, seed: int, spec: ModelSpec, mapping: ClassMapping | None = None
) -> LabeledImages:
    """Read the images of a data source, or of one of its splits.

    Args:
        data: config of the source; the model's size and color replace those in it.
        split: `all`, `train`, `val` or `test`; the data is split as a training would split it.
        seed: seed of the subset and, unless `data.split.seed` is set, of the split.
        spec: describes the input and the classes of the model.
        mapping: maps the class names of the data to those of the model; None if they are known to be the same.

    Raises:
        UserError: the source or an image cannot be read (`data.on_bad=skip` leaves such images out), or the classes
            are not those of the model.
    """
    reader = build_reader(data)
    module = EyesDataModule(
        reader if mapping is None else _CheckedReader(reader, mapping),
        spec.size,
        color=spec.color,
        seed=seed,
        on_bad=data.on_bad,
        on_conflict="drop" if data.on_conflict == "drop" else "keep",
        **split_options(data),
    )
    if split == "all":
        module.read(to_split=False)
        index = np.arange(len(module.samples), dtype=np.int64)
    else:
        module.setup()
        index = module.split.index(split)
    samples = module.samples.take(index)
    if mapping is not None:
        samples = mapping.relabel(samples)
    # Both eyes of one face count as one person, even if the person is unknown.
    known = module.persons if module.persons is not None else module.samples.files
    persons = None if known is None else [str(known[int(i)]) for i in index]
    names = set(samples.names)
    conflicts = tuple(copies for copies in module.conflicts if names.intersection(copies))
    return LabeledImages(samples, persons, module.skipped, conflicts, module.store)
