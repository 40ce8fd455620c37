"""Batches of stored activations in place of pictures, in the same order and of the same size."""

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


class ActivationLoader(BatchLoader):
    """Each epoch draws one view per picture, a function of (seed, epoch); evaluation takes the original.

    Args:
        store: the entry.
        rows: its picture for each sample, int64 of shape (N,).
        *arguments: of `BatchLoader`, like `options`.
        mirrored: hand out the second view, too.
    """

    def __init__(
        self, store: ActivationStore, rows: NDArray[np.int64], *arguments: Any, mirrored: bool = False, **options: Any
    ) -> None:
        super().__init__(rows, *arguments, **options)
        self.store = store
        self.mirrored = mirrored
        self._views = np.zeros(len(rows), dtype=np.int64)

    def _batches(self) -> list[NDArray[np.int64]]:
        if self.shuffle:
            self._views = np.random.default_rng((self.seed, self.epoch, 1)).integers(
                self.store.views, size=len(self.rows)
            )
        return super()._batches()

    def _load(self, positions: NDArray[np.int64]) -> Batch:
        pictures = self.rows[positions]
        features = self._ready(self.store.read(pictures, self._views[positions]))
        mirrored = self._ready(self.store.read(pictures, 1)) if self.mirrored else None
        labels = self._ready(torch.from_numpy(self.labels[positions]))
        index = self._ready(torch.from_numpy(self.index[positions]))
        return Batch(features, labels, index, is_features=True, mirrored=mirrored)


@dataclass(frozen=True)
class PartEntry:
    """The stored activations of one part of the split.

    Args:
        store: of its pictures.
        rows: the store's picture for each of its samples, in the order of the split.
        mirrored: the second view is the mirror image, and wanted.
    """

    store: ActivationStore
    rows: NDArray[np.int64]
    mirrored: bool = False


@dataclass(frozen=True)
class ActivationLoaders:
    """What the data module asks for its loaders.

    Args:
        parts: by name: train, val and, where it is wanted, test.
    """

    parts: Mapping[str, PartEntry]

    def loader(self, split: str, *arguments: Any, **options: Any) -> ActivationLoader | None:
        """The loader of this split, or None; what `BatchLoader` takes after its rows comes last."""
        entry = self.parts.get(split)
        if entry is None:
            return None
        return ActivationLoader(entry.store, entry.rows, *arguments, mirrored=entry.mirrored, **options)
