"""Decides whether a run reads stored activations in place of pictures, and sees to it that they are there."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from eyegender.core.cache import cache_folder, limit_bytes, make_room
from eyegender.core.errors import UserError
from eyegender.features.build import (
    Build,
    EntrySource,
    PictureSource,
    TooLargeForTypeError,
    open_or_build,
)
from eyegender.features.entry_key import EntryFacts, chained_digests
from eyegender.features.loader import ActivationLoaders, PartEntry
from eyegender.features.opened import open_activations, remember
from eyegender.features.prefix import FrozenPrefix
from eyegender.features.views import Views, training_views
from eyegender.training.autotune import MEASURE_FORWARD_FROM, prefix_dtype, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.features.store import ActivationStore
    from eyegender.models.classifier import Classifier

_log = logging.getLogger("eyegender")


@dataclass(frozen=True)
class _Part:
    """One part of the split as an entry.

    Args:
        digests: of its different pictures, sorted.
        rows: position in `digests` of each of its samples.
        first: a sample of each different picture, in the data module's numbering.
        views: that are wanted.
    """

    digests: tuple[str, ...]
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    views: Views

    @property
    def passes(self) -> int:
        return len(self.digests) * len(self.views)


def use_activations(
    cfg: TrainConfig,
    module: Classifier,
    data: EyesDataModule,
    device: torch.device,
    check: Callable[[], None],
    *,
    trials: int = 1,
) -> None:
    """Let `data` hand out stored activations, if something is frozen and `features.mode` allows it and it pays.

    The weights in `module` must be the final ones of the frozen stages. What is stored already always pays.

    Args:
        cfg: of the run.
        module: whose frozen stages are evaluated.
        data: after its `setup`.
        device: to evaluate on.
        check: called now and then during a long preparation; what it raises ends it.
        trials: of a sweep that will read the same, this one among them.

    Raises:
        UserError: the store is asked for and cannot be had.
    """
    network = module.network
    if cfg.features.mode == "off" or not network.cut or not len(data.split.train) or not len(data.split.val):
        return
    run = _Preparation(cfg, module, data, device, check, trials=trials)
    reason = run.why_not()
    if reason is not None:
        if cfg.features.mode == "on":
            raise UserError(f"features.mode=on cannot be had: {reason}; change that or set features.mode=auto")
        _log.info("features: frozen stages run in every epoch, for %s", reason)
        return
    try:
        data.batch_source = run.loaders()
    except TooLargeForTypeError as error:
        if cfg.features.mode == "on":
            raise UserError(
                f"features.dtype must hold every activation, got {error}; set features.dtype=bfloat16"
            ) from error
        _log.warning("features: frozen stages run in every epoch, for %s; set features.dtype=bfloat16", error)
        return
    run.tell()


class _Preparation:
    """What one run wants of the store, and what of it is missing."""

    def __init__(
        self,
        cfg: TrainConfig,
        module: Classifier,
        data: EyesDataModule,
        device: torch.device,
        check: Callable[[], None],
        *,
        trials: int = 1,
    ) -> None:
        self.trials = trials
        self.cfg, self.network, self.data, self.device, self.check = cfg, module.network, data, device, check
        self.folder = cache_folder() / "activations"
        self.cut = self.network.cut
        self.pooled = self.cut == len(self.network.stages) and bool(getattr(self.network.head, "pools", False))
        flip_test = module.flip_test
        self.parts = {
            "train": self._part("train", training_views(cfg.features.views, module.augment, cfg.seed)),
            "val": self._part("val", Views()),
        }
        if cfg.run_test and len(data.split.test):
            self.parts["test"] = self._part("test", Views(mirrored=flip_test))
        self.passes = sum(part.passes for part in self.parts.values())
        self.compute = self._compute_dtype()
        self.facts = EntryFacts(
            backbone=cfg.model.backbone.target,
            stages=chained_digests(self.network),
            normalisation=f"{self.network.mean.flatten().tolist()} {self.network.std.flatten().tolist()}",
            size=data.size,
            color=data.color,
            dtype=cfg.features.dtype,
            computed=f"{self.compute} {self.device.type}",
        )
        self.stores = {name: self._stored(part, self.cut, pooled=self.pooled) for name, part in self.parts.items()}
        self.missing = {name: part for name, part in self.parts.items() if self.stores[name] is None}
        self.saved = 0

    def why_not(self) -> str | None:
        """The reason for which it does not pay or fit, or None."""
        if self.cfg.model.mixup:
            return f"model.mixup={self.cfg.model.mixup:g} mixes pictures, not activations"
        if not self.missing:
            return None
        split, trainer = self.data.split, self.cfg.trainer
        epochs = trainer.max_epochs
        if trainer.max_steps > 0:
            epochs = min(epochs, math.ceil(trainer.max_steps * trainer.batch_size / len(split.train)))
        missing = sum(part.passes for part in self.missing.values())
        test = self.parts["test"].passes if "test" in self.parts else 0
        self.saved = self.trials * epochs * (len(split.train) + len(split.val)) + test - missing
        if self.cfg.features.mode == "auto" and self.saved <= 0:
            return (
                f"{len(self.parts['train'].views)} views per picture take {missing:,} passes and {epochs} epochs"
                f"{self._by_trials()} take {missing + self.saved:,}"
            )
        needed = sum(self._build(part).nbytes for part in self.missing.values())
        limit = limit_bytes(self.folder, self.cfg.features.max_gb)
        keep = {self.data.store.folder, *(store.folder for store in self.stores.values() if store is not None)}
        if not make_room(self.folder, needed, limit, keep):
            return f"{needed / 1e9:.3g} GB of activations are more than features.max_gb allows ({limit / 1e9:.3g})"
        return None

    def loaders(self) -> ActivationLoaders:
        for name, part in self.missing.items():
            self.stores[name] = remember(open_or_build(self._build(part)))
        found = {}
        for name, part in self.parts.items():
            store = self.stores[name]
            assert store is not None
            found[name] = PartEntry(store, part.rows, mirrored=name == "test" and part.views.mirrored)
        return ActivationLoaders(found)

    def tell(self) -> None:
        size = sum(store.nbytes for store in self.stores.values() if store is not None)
        views = len(self.parts["train"].views)
        kept = f"{views} view{'s' * (views > 1)} per picture, {size / 1e6:,.3g} MB in {self.folder}"
        if self.missing:
            saved = f"{self.saved:,} passes saved{self._by_trials()}"
            _log.info("features: %d frozen stages ran once, %s (%s)", self.cut, saved, kept)
        else:
            _log.info("features: %d frozen stages need not run, their outputs are stored (%s)", self.cut, kept)

    def _by_trials(self) -> str:
        return f" of {self.trials} trials" if self.trials > 1 else ""

    def _part(self, name: str, views: Views) -> _Part:
        index: NDArray[np.int64] = getattr(self.data.split, name)
        digests, first, rows = np.unique(
            np.array([self.data.samples.digests[i] for i in index]), return_index=True, return_inverse=True
        )
        return _Part(tuple(digests.tolist()), rows.astype(np.int64), index[first], views)

    def _compute_dtype(self) -> torch.dtype:
        precision = self.cfg.trainer.precision
        if precision == "auto":
            if work(self.passes, self.data.size) < MEASURE_FORWARD_FROM:
                return torch.float32
            return prefix_dtype(self.network, self.cfg.model.name, self.data.size, self.device)
        if precision.startswith("16"):
            return torch.float16 if self.device.type == "cuda" else torch.float32
        return torch.bfloat16 if precision.startswith("bf16") else torch.float32

    def _stored(self, part: _Part, cut: int, *, pooled: bool) -> ActivationStore | None:
        return open_activations(self._entry(part, cut, pooled=pooled), len(part.digests), len(part.views))

    def _entry(self, part: _Part, cut: int, *, pooled: bool) -> Path:
        return self.folder / self.facts.key(cut, pooled=pooled, digests=part.digests, views=part.views)

    def _build(self, part: _Part) -> Build:
        start, earlier = self._deepest(part)

        def source() -> PictureSource | EntrySource:
            if earlier is not None:
                return EntrySource(earlier)
            return PictureSource(self.data.store, self.data.rows(part.first), part.views)

        def prefix() -> FrozenPrefix:
            return FrozenPrefix(self.network, start, self.cut, pool=self.pooled, dtype=self.compute, device=self.device)

        return Build(
            folder=self._entry(part, self.cut, pooled=self.pooled),
            pictures=len(part.digests),
            views=len(part.views),
            row_shape=self._row_shape(),
            dtype=self.cfg.features.dtype,
            source=source,
            prefix=prefix,
            check=self.check,
        )

    def _deepest(self, part: _Part) -> tuple[int, ActivationStore | None]:
        """The deepest cut with an entry before this run's, and that entry; 0 and None where pictures are needed."""
        for cut in range(self.cut if self.pooled else self.cut - 1, 0, -1):
            store = self._stored(part, cut, pooled=False)
            if store is not None:
                return cut, store
        return 0, None

    def _row_shape(self) -> tuple[int, ...]:
        """Of what the frozen stages give for one picture: (C,) or (h, w, C)."""
        picture = torch.zeros(1, 1, self.data.size, self.data.size, device=self.network.mean.device)
        with torch.no_grad():
            given = self.network.prefix(self.network.normalise(picture))
        _, channels, height, width = given.shape
        return (channels,) if self.pooled else (height, width, channels)
