"""Everything between a reader and the model's batches: pictures decoded once, split by person, handed out whole."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pytorch_lightning as pl

from eyegender.core.errors import UserError
from eyegender.data.batches import BatchLoader, OrderedBatches
from eyegender.data.blocks import cut_into_blocks
from eyegender.data.conflicts import OnConflict, check_conflicts, find_conflicts
from eyegender.data.grouping import find_groups
from eyegender.data.pixel_build import open_pixel_store
from eyegender.data.split_file import read_split_csv
from eyegender.data.split_warnings import warn_of_missed_fractions, warn_of_parted_persons
from eyegender.data.splits import (
    KINDS,
    Split,
    draw_subset,
    split_at_random,
    split_by_group,
    split_officially,
)
from eyegender.data.unreadable import check_readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.data.decode import Color
    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.samples import Reader, Samples

_log = logging.getLogger(__name__)


class BatchSource(Protocol):
    """A source of batches that replaces the images, such as stored activations."""

    def loader(self, split: str, *arguments: Any, **options: Any) -> OrderedBatches | None:
        """The loader of a split (train, val or test), or None to read its images."""


class EyesDataModule(pl.LightningDataModule):
    """Batches of eyes from any reader.

    After `setup`: `samples` are the pictures that take part, in a fixed order; `split`, `store`, `groups` (None unless
    they stood in for persons), `skipped` (unreadable pictures: reasons by name) and `conflicts` (names of the copies of
    each picture that lies in both classes) belong to them.
    If `batch_source` is set, it supplies the batches of the splits.

    Args:
        reader: the data source.
        size: side of the pictures in pixels, 8 or more.
        color: `gray` (C = 1) or `rgb` (C = 3).
        subset: how many pictures per class, drawn by the seed, or None for all.
        split_by: `person`, `random`, `file` or `official`.
        split_file: the CSV file of `split_by=file`.
        test_fraction: of all pictures, in (0, 1).
        val_fraction: of all pictures, in (0, 1).
        batch_size: pictures per training batch and process.
        eval_batch_size: pictures per batch in evaluation, or None for twice `batch_size`.
        seed: of subset, split and training order.
        split_seed: of subset and split alone; None follows `seed`.
        on_bad: unreadable pictures stop everything (`error`) or are left out (`skip`).
        on_conflict: the same picture in both classes stops everything (`error`), is left out with all its copies
            (`drop`) or stays (`keep`).
        cache_folder: where decoded pictures are kept, see `cache_folder`.
        cache_gb: what the cache may take, see `open_pixel_store`.
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
        if split_by not in KINDS:
            raise UserError(f"data.split.by must be one of {', '.join(KINDS)}, got {split_by!r}")
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

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read, decode (once per machine) and split; the same in every process, whatever the stage.

        Raises:
            UserError: the source, its pictures or the split cannot be used.
        """
        if not hasattr(self, "split"):
            self.read()
            self.make_split()

    def read(self, *, to_split: bool = True) -> None:
        """Read and decode.

        Args:
            to_split: tell before decoding that `make_split` could not know who is who.

        Raises:
            UserError: the source or its pictures cannot be used.
        """
        samples = self.reader.read()
        if to_split:
            self._check_persons(samples)
        # Groups are found among all pictures: a subset breaks the runs of file numbers that they rest on.
        groups = self._groups(samples)
        if self.subset is not None:
            chosen = draw_subset(samples, self.subset, self.split_seed)
            samples = samples.take(chosen)
            groups = None if groups is None else groups[chosen]
        store = open_pixel_store(samples, self.size, self.color, self.cache_folder, self.cache_gb)
        self.skipped = check_readable(samples, store.bad, self.on_bad)
        if self.skipped:
            readable = np.flatnonzero([digest not in store.bad for digest in samples.digests])
            samples = samples.take(readable)
            groups = None if groups is None else groups[readable]
        conflicts = find_conflicts(samples, store)
        left_out = check_conflicts(samples, conflicts, self.on_conflict)
        self.conflicts = tuple(tuple(samples.names[i] for i in copies) for copies in conflicts)
        self._left_out = (*self.skipped, *(samples.names[i] for i in left_out))
        if left_out:
            rest = np.setdiff1d(np.arange(len(samples)), left_out)
            samples = samples.take(rest)
            groups = None if groups is None else groups[rest]
        self.store = store
        self.groups = groups
        self._rows = store.rows(samples.digests)
        self.samples = samples

    @property
    def names(self) -> tuple[str, ...]:
        return self.samples.names

    @property
    def source(self) -> str:
        return self.samples.source

    @property
    def attributes(self) -> Mapping[str, NDArray[np.int8]]:
        """Further facts, each aligned with `names`."""
        return self.samples.attributes

    @property
    def channels(self) -> int:
        return self.store.shape[1]

    @property
    def fingerprint(self) -> str:
        """Hex hash of which pictures, with which labels, take part at which size and colour; not of their order."""
        mark = hashlib.sha256(f"{self.size} {self.color}".encode())
        for line in sorted(f"{d} {label}" for d, label in zip(self.samples.digests, self.samples.labels, strict=True)):
            mark.update(b"\n" + line.encode())
        return mark.hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures per part and class name."""
        return self.split.counts(self.samples)

    @property
    def persons(self) -> Sequence[str] | NDArray[np.int64] | None:
        """Who each sample shows: as the source says it, else the groups that stood in for persons, else None."""
        return self.samples.persons if self.samples.persons is not None else self.groups

    def pixels(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decoded pictures (B, C, H, W) of the samples at `index`."""
        return self.store.read(self._rows[index])

    def facts(self) -> dict[str, object]:
        """What a result must be read with: where the pictures come from and how they were split."""
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

    def train_dataloader(self) -> OrderedBatches:
        return self._part_loader("train", self.split.train, self.batch_size)

    def val_dataloader(self) -> OrderedBatches:
        return self._part_loader("val", self.split.val, self.eval_batch_size)

    def test_dataloader(self) -> OrderedBatches:
        return self._part_loader("test", self.split.test, self.eval_batch_size)

    def loader(self, index: NDArray[np.int64], batch_size: int, *, shuffle: bool) -> BatchLoader:
        """Batches of the pictures at `index`, shared out between the trainer's processes."""
        options = self._loader_options(shuffle=shuffle)
        return BatchLoader(self.store, self._rows[index], self.samples.labels[index], index, batch_size, **options)

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pixel store's rows of the samples at `index`."""
        return self._rows[index]

    def _part_loader(self, part: str, index: NDArray[np.int64], batch_size: int) -> OrderedBatches:
        shuffle = part == "train"
        if self.batch_source is not None:
            options = self._loader_options(shuffle=shuffle)
            found = self.batch_source.loader(part, self.samples.labels[index], index, batch_size, **options)
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
                "add that file, or set data.split.by=official for CelebA's own partition, which parts no person either"
            )

    def _groups(self, samples: Samples) -> NDArray[np.int64] | None:
        if self.split_by != "person" or samples.persons is not None or samples.source == "celeba":
            return None
        found = find_groups(samples, self.cache_folder, max_gb=self.cache_gb)
        self._alike = [(samples.digests[a], samples.digests[b]) for a, b in found.near_pairs.tolist()]
        first, second = samples.labels[found.near_pairs].T
        if count := int(np.sum(first != second)):
            _log.warning("%d pairs of near-duplicates are in both classes; python -m eyegender.audit names them", count)
        return found.group

    def make_split(self) -> None:
        """Split what was read.

        Raises:
            UserError: the pictures, or what is known of them, do not allow it.
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
                self.groups, cut = cut_into_blocks(samples, self.groups, self._alike, min(test, val, 1 - test - val))
                if cut:
                    _log.warning("%s", cut)
                    kind = "blocks"
            assert self.persons is not None
            split = split_by_group(samples, self.persons, kind=kind, test=test, val=val, seed=self.split_seed)
            warn_of_missed_fractions(samples, split, test=test, val=val)
            return split
        if self.split_by == "file":
            assert self.split_file is not None
            split = read_split_csv(self.split_file, samples, self._left_out)
        else:
            split = split_officially(samples)
        warn_of_parted_persons(samples, split)
        return split
