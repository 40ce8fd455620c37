"""Batches of stored activations instead of images, in the same order and of the same size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyegender.data.loader import Batch, BatchLoader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eyegender.features.store import ActivationStore


_SMALL = 1_000_000  # bytes of a batch; reading a smaller one takes less time than handing it from thread to thread


class ActivationLoader(BatchLoader):
    """Each epoch reads one view per image, chosen by (seed, epoch); evaluation reads the original.

    Args:
        store: store of the images.
        rows: position in the store of each sample's image, int64 of shape (N,).
        *arguments: further arguments of `BatchLoader`.
        mirrored: read the second view, the mirror image, too.
        **options: keyword arguments of `BatchLoader`.
    """

    def __init__(
        self, store: ActivationStore, rows: NDArray[np.int64], *arguments: Any, mirrored: bool = False, **options: Any
    ) -> None:
        super().__init__(rows, *arguments, **options)
        self.store = store
        self.mirrored = mirrored
        self._views = np.zeros(len(rows), dtype=np.int64)

    @property
    def _prefetches(self) -> bool:
        return (
            self.gpu is not None
            or self.store.nbytes // (self.store.images * self.store.views) * self.batch_size > _SMALL
        )

    def _batches(self) -> list[NDArray[np.int64]]:
        if self.shuffle:
            self._views = np.random.default_rng((self.seed, self.epoch, 1)).integers(
                self.store.views, size=len(self.rows)
            )
        return super()._batches()

    def _load(self, positions: NDArray[np.int64]) -> Batch:
        images = self.rows[positions]
        features = self._ready(self.store.read(images, self._views[positions]))
        mirrored = self._ready(self.store.read(images, 1)) if self.mirrored else None
        labels = self._ready(torch.from_numpy(self.labels[positions]))
        index = self._ready(torch.from_numpy(self.index[positions]))
        return Batch(features, labels, index, is_features=True, mirrored=mirrored)


@dataclass(frozen=True)
class SplitActivations:
    """Stored activations of one split.

    Args:
        store: store of its images.
        rows: position in the store of each sample's image, in the order of the split.
        mirrored: read the mirror image, too.
    """

    store: ActivationStore
    rows: NDArray[np.int64]
    mirrored: bool = False


@dataclass(frozen=True)
class ActivationSource:
    """The `BatchSource` of a data module whose splits are stored.

    Args:
        splits: the stored splits by name: train, val and, if it is needed, test.
    """

    splits: Mapping[str, SplitActivations]

    def loader(self, split: str, *arguments: Any, **options: Any) -> ActivationLoader | None:
        """The loader of a split, or None if it is not stored; takes the arguments of `BatchLoader` after `rows`."""
        found = self.splits.get(split)
        if found is None:
            return None
        return ActivationLoader(found.store, found.rows, *arguments, mirrored=found.mirrored, **options)
