"""The Lightning data module: reads, decodes and splits the images of any reader, and loads batches of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pytorch_lightning as pl

from eyegender.core.cache import cache_folder
from eyegender.core.errors import UserError
from eyegender.data.blocks import split_into_blocks
from eyegender.data.grouping import find_groups
from eyegender.data.image_checks import OnConflict, check_conflicts, check_readable, find_conflicts, is_unreadable
from eyegender.data.last_setup import recall, remember
from eyegender.data.loader import BatchLoader, ImageLoader
from eyegender.data.pixel_cache import open_pixel_store
from eyegender.data.split_file import read_split_csv
from eyegender.data.splits import (
    SPLIT_KINDS,
    Split,
    check_counts,
    official_split,
    sample_subset,
    split_at_random,
    split_by_group,
    warn_missed_fractions,
    warn_separated_persons,
)
from eyegender.data.splits.hashing import images_fingerprint
from eyegender.data.text_columns import text_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.data.decode import Color
    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.readers import Reader, Samples

_log = logging.getLogger(__name__)


class BatchSource(Protocol):
    """A source of batches that replaces the images, such as stored activations."""

    def loader(self, split: str, *arguments: Any, **options: Any) -> BatchLoader | None:
        """The loader of `train`, `val` or `test`, or None if images are to be loaded.

        Args:
            split: name of the split.
            *arguments: arguments of `BatchLoader` after `rows`, as `options`.
        """


class EyesDataModule(pl.LightningDataModule):
    """Batches of labeled images from any reader.

    After `setup`, it has these attributes: `samples` (the images that are used, in a fixed order), `split`, `store`,
    `groups` (None if the persons are known or not needed), `skipped` (reasons of unreadable images by name) and
    `conflicts` (the names of all copies of each image that is in two classes). If `batch_source` is set, it supplies
    the batches of the splits.

    Args:
        reader: the data source.
        size: side of the images in pixels, 8 or more.
        color: `gray` (C = 1) or `rgb` (C = 3).
        subset: number of images per class, chosen at random, or None for all images.
        split_by: `person`, `random`, `file` or `official`.
        split_file: the CSV file for `split_by=file`.
        test_fraction: fraction of all images for the test set, in (0, 1).
        val_fraction: fraction of all images for the validation set, in (0, 1).
        batch_size: images per training batch and process.
        eval_batch_size: images per batch in evaluation, or None for twice `batch_size`.
        seed: seed of the subset, the split and the order of training batches.
        split_seed: seed of the subset and the split only; None means `seed`.
        on_bad: unreadable images are an error (`error`) or are left out (`skip`).
        on_conflict: an image in two classes is an error (`error`), is left out with all its copies (`drop`) or keeps
            both labels (`keep`).
        cache_folder: folder for decoded images, see `cache_folder`.
        cache_gb: limit of the cache, see `open_pixel_store`.

    Example:
        >>> from eyegender.data.synthetic import SyntheticReader
        >>> data = EyesDataModule(SyntheticReader(n=100), size=32)
        >>> data.setup()
        >>> data.counts()["test"]
        {'female': 10, 'male': 10}
    """

    samples: Samples
    split: Split
    store: PixelStore
    groups: NDArray[np.int64] | None
    skipped: Mapping[str, str]
    conflicts: tuple[tuple[str, ...], ...]
    batch_source: BatchSource | None = None

    def __init__(
        self,
        reader: Reader,
        size: int,
        *,
        color: Color = "gray",
        subset: Mapping[str, int] | None = None,
        split_by: str = "person",
        split_file: str | Path | None = None,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int = 0,
        split_seed: int | None = None,
        on_bad: Literal["error", "skip"] = "error",
        on_conflict: OnConflict = "error",
        cache_folder: str | Path | None = None,
        cache_gb: float | None = None,
    ) -> None:
        super().__init__()
        if split_by not in SPLIT_KINDS:
            raise UserError(f"data.split.by must be one of {', '.join(SPLIT_KINDS)}, got {split_by!r}")
        if (split_by == "file") != (split_file is not None):
            raise UserError(
                f"data.split.file goes with data.split.by=file, got by={split_by} and file={split_file}; set both"
            )
        if size < 8:
            raise UserError(f"data.size must be 8 pixels or more, got {size}")
        self.reader = reader
        self.size = size
        self.color = color
        self.subset = subset
        self.split_by = split_by
        self.split_file = split_file
        self.test_fraction = test_fraction
        self.val_fraction = val_fraction
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or 2 * batch_size
        self.seed = seed
        self.split_seed = seed if split_seed is None else split_seed
        self.on_bad = on_bad
        self.on_conflict = on_conflict
        self.cache_folder = cache_folder
        self.cache_gb = cache_gb
        self._fingerprint: str | None = None

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read, decode (once per machine) and split the images, in the same way in every process and stage.

        If the last data module of this process had the same samples and options, its result is used again.

        Raises:
            UserError: the source, its images or the split cannot be used.
        """
        if hasattr(self, "split"):
            return
        samples, options = self.reader.read(), self._options()
        if found := recall(samples, options) if self.split_by != "file" else {}:
            self.__dict__.update(found)
            return
        before = set(self.__dict__)
        self._read(samples, to_split=True)
        self.make_split()
        self._fingerprint = self._hash_images()
        new = self.__dict__.keys() - before | {"_fingerprint"}
        remember(samples, options, {name: self.__dict__[name] for name in new})

    def _options(self) -> tuple[object, ...]:
        """What `setup` depends on besides the samples and the file of a split."""
        subset = None if self.subset is None else tuple(self.subset.items())
        split = (self.split_by, self.test_fraction, self.val_fraction, self.split_seed, subset)
        return (*split, self.size, self.color, self.on_bad, self.on_conflict, cache_folder(self.cache_folder))

    def read(self, *, to_split: bool = True) -> None:
        """Read and decode the images.

        Args:
            to_split: check before decoding that `make_split` will know the persons that it needs.

        Raises:
            UserError: the source or its images cannot be used.
        """
        self._read(self.reader.read(), to_split=to_split)

    def _read(self, samples: Samples, *, to_split: bool) -> None:
        samples = samples.in_columns()  # once, and not in every step
        if to_split:
            self._check_persons(samples)
            if self.subset is None:  # `sample_subset` checks the others
                check_counts(samples)
        # Groups are found among all images: in a subset, the runs of consecutive file numbers have gaps.
        groups = self._groups(samples)

        def select(index: NDArray[np.int64]) -> None:
            nonlocal samples, groups
            samples = samples.take(index)
            groups = None if groups is None else groups[index]

        if self.subset is not None:
            select(sample_subset(samples, self.subset, self.split_seed))
        self.store = open_pixel_store(samples, self.size, self.color, self.cache_folder, self.cache_gb)
        self.skipped = check_readable(samples, self.store.bad, self.on_bad)
        if self.skipped:
            select(np.flatnonzero(~is_unreadable(samples, self.store.bad)))
        rows = self.store.rows(samples.digests)
        conflicts = find_conflicts(samples, self.store, rows)
        left_out = check_conflicts(samples, conflicts, self.on_conflict)
        self.conflicts = tuple(tuple(samples.names[i] for i in copies) for copies in conflicts)
        self._left_out = (*self.skipped, *(samples.names[i] for i in left_out))
        if left_out:
            kept = np.setdiff1d(np.arange(len(samples)), left_out)
            select(kept)
            rows = rows[kept]
        self.samples, self.groups = samples, groups
        self._fingerprint = None
        self._rows = rows

    @property
    def source(self) -> str:
        return self.samples.source

    @property
    def fingerprint(self) -> str:
        """Hex hash of the images with their labels, the size and the color mode; independent of their order."""
        if self._fingerprint is None:
            self._fingerprint = self._hash_images()
        return self._fingerprint

    def _hash_images(self) -> str:
        return images_fingerprint(f"{self.size} {self.color}", text_array(self.samples.digests), self.samples.labels)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class name."""
        return self.split.counts(self.samples)

    @property
    def persons(self) -> Sequence[str] | NDArray[np.int64] | None:
        """The person of each sample if the source knows it, else its group, else None."""
        return self.samples.persons if self.samples.persons is not None else self.groups

    def pixels(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decoded images (B, C, H, W) of the samples at `index`."""
        return self.store.read(self._rows[index])

    def facts(self) -> dict[str, object]:
        """A description of the data for reports: where the images are from and how they are split."""
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "counts": self.counts(),
            "split": {"kind": self.split.kind, "fingerprint": self.split.fingerprint, "seed": self.split_seed},
            "skipped": len(self.skipped),
            "conflicts": {"pictures": len(self.conflicts), "handling": self.on_conflict},
            "size": self.size,
            "color": self.color,
        }

    def train_dataloader(self) -> BatchLoader:
        return self._split_loader("train", self.split.train, self.batch_size)

    def val_dataloader(self) -> BatchLoader:
        return self._split_loader("val", self.split.val, self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        return self._split_loader("test", self.split.test, self.eval_batch_size)

    def loader(self, index: NDArray[np.int64], batch_size: int, *, shuffle: bool) -> ImageLoader:
        """Batches of the images at `index`, distributed among the processes of the trainer."""
        options = self._loader_options(shuffle=shuffle)
        return ImageLoader(self.store, self._rows[index], self.samples.labels[index], index, batch_size, **options)

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the samples at `index` in the pixel store."""
        return self._rows[index]

    def _split_loader(self, split: str, index: NDArray[np.int64], batch_size: int) -> BatchLoader:
        shuffle = split == "train"
        if self.batch_source is not None:
            options = self._loader_options(shuffle=shuffle)
            found = self.batch_source.loader(split, self.samples.labels[index], index, batch_size, **options)
            if found is not None:
                return found
        return self.loader(index, batch_size, shuffle=shuffle)

    def _loader_options(self, *, shuffle: bool) -> dict[str, Any]:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer is not None else None
        return {
            "shuffle": shuffle,
            "seed": self.seed,
            "rank": trainer.global_rank if trainer is not None else 0,
            "world_size": trainer.world_size if trainer is not None else 1,
            "gpu": device if device is not None and device.type == "cuda" else None,
        }

    def _check_persons(self, samples: Samples) -> None:
        if self.split_by == "person" and samples.persons is None and samples.source == "celeba":
            raise UserError(
                "data.split.by=person needs to know who is who, got CelebA without identity_CelebA.txt; "
                "add that file, or set data.split.by=official for CelebA's own partition, which does not separate "
                "images of one person either"
            )

    def _groups(self, samples: Samples) -> NDArray[np.int64] | None:
        if self.split_by != "person" or samples.persons is not None or samples.source == "celeba":
            return None
        found = find_groups(samples, self.cache_folder, max_gb=self.cache_gb)
        self._near_pairs = [(samples.digests[a], samples.digests[b]) for a, b in found.near_pairs.tolist()]
        first, second = samples.labels[found.near_pairs].T
        if count := int(np.sum(first != second)):
            which = "both" if len(samples.classes) == 2 else "different"
            _log.warning("%d pairs of near-duplicates are in %s classes; eyegender audit lists them", count, which)
        return found.group

    def make_split(self) -> None:
        """Split the images that were read.

        Raises:
            UserError: the images cannot be split in this way.
        """
        self._check_persons(self.samples)
        self.split = self._split(self.samples)

    def _split(self, samples: Samples) -> Split:
        test, val = self.test_fraction, self.val_fraction
        if self.split_by == "random":
            return split_at_random(samples, test, val, self.split_seed)
        if self.split_by == "person":
            kind = "person"
            if self.groups is not None:
                share = min(test, val, 1 - test - val)
                self.groups, warning = split_into_blocks(samples, self.groups, self._near_pairs, share)
                if warning:
                    _log.warning("%s", warning)
                    kind = "blocks"
            assert self.persons is not None
            split = split_by_group(samples, self.persons, kind=kind, test=test, val=val, seed=self.split_seed)
            warn_missed_fractions(samples, split, test=test, val=val)
            return split
        if self.split_by == "file":
            assert self.split_file is not None
            split = read_split_csv(self.split_file, samples, self._left_out)
        else:
            split = official_split(samples)
        warn_separated_persons(samples, split)
        return split
