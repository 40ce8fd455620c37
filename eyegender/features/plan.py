"""Decides whether a run reads stored activations instead of images, and builds the missing ones."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig

from eyegender.core.cache import cache_folder, limit_bytes, make_room
from eyegender.core.errors import UserError
from eyegender.features.build import Build, ImageSource, StoreSource, TooLargeForTypeError, open_or_build
from eyegender.features.loader import ActivationSource, SplitActivations
from eyegender.features.prefix import FrozenPrefix, Views, training_views
from eyegender.features.store import STORE_POOL, EntryKey, stage_digests
from eyegender.features.sweep_plan import keeps_activations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.features.store import ActivationStore
    from eyegender.features.sweep_plan import KeptCuts
    from eyegender.models.classifier import Classifier
    from hydra_plugins.optuna_study import TrialHandle

_log = logging.getLogger("eyegender")


def expected_reuse(trial: TrialHandle | None) -> int:
    """Number of trials, from this one to the last, that read the same activations; 1 for a single run.

    It is 1 if the sweep varies a key that may change what is stored, such as the depth: how often the sampler returns
    to a value is unknown. `features=on` then stores the activations anyway.
    """
    if trial is None or not HydraConfig.initialized():
        return 1
    if not all(map(keeps_activations, trial.params)):
        return 1
    trials = HydraConfig.get().sweeper.get("n_trials")
    return max(1, int(trials) - trial.number) if trials is not None else 1


def stored_activations(
    cfg: TrainConfig,
    module: Classifier,
    data: EyesDataModule,
    device: torch.device,
    *,
    compute_dtype: Callable[[int], torch.dtype],
    check: Callable[[], None],
    reuse: int = 1,
    kept: KeptCuts | None = None,
) -> ActivationSource | None:
    """Batches of stored activations, or None if the frozen stages must run in every epoch.

    Activations are used if stages are frozen, `features.mode` allows it and it saves forward passes. Activations that
    are already stored are always used. In a sweep with a plan, the plan decides, and the network may have to start from
    the output of an earlier stage than its last frozen one.

    Args:
        cfg: config of the run.
        module: the classifier; the weights of its frozen stages must be final.
        data: the data module, after its `setup`.
        device: device to compute on.
        compute_dtype: chooses the type to compute in, given the number of forward passes.
        check: called regularly during a long computation; an exception from it ends the computation.
        reuse: number of runs that will read the activations, see `expected_reuse`.
        kept: the cuts that the plan of the sweep stores, or None without a plan.

    Raises:
        UserError: `features.mode=on` is not possible, or the disk is full.
    """
    network = module.network
    if cfg.features.mode == "off" or not network.cut or not len(data.split.train) or not len(data.split.val):
        return None
    plan = ActivationPlan(cfg, module, data, device, compute_dtype=compute_dtype, check=check, reuse=reuse, kept=kept)
    if kept is not None and plan.missing:
        plan.follow(kept)
    reason = plan.obstacle()
    if reason is not None:
        if cfg.features.mode == "on":
            raise UserError(f"features.mode=on is not possible: {reason}; change that or set features.mode=auto")
        _log.info("features: frozen stages run in every epoch, because %s", reason)
        return None
    try:
        source = plan.build()
    except TooLargeForTypeError as error:
        if cfg.features.mode == "on":
            raise UserError(
                f"features.dtype must hold every activation, got {error}; set features.dtype=bfloat16"
            ) from error
        _log.warning("features: frozen stages run in every epoch, because %s; set features.dtype=bfloat16", error)
        return None
    _log.info("features: %s", plan.summary(source))
    network.features_start = plan.cut
    return source


@dataclass(frozen=True)
class _SplitPlan:
    """One split as an entry of the store.

    Args:
        digests: digests of its distinct images, sorted.
        rows: position in `digests` of each of its samples.
        first: one sample of each distinct image, as positions in the data module's samples.
        views: views to store.
    """

    digests: tuple[str, ...]
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    views: Views

    @property
    def passes(self) -> int:
        """Forward passes of the frozen stages that the entry takes."""
        return len(self.digests) * len(self.views)


class ActivationPlan:
    """The entries that one run needs, and which of them are missing; see `stored_activations` for the arguments."""

    def __init__(
        self,
        cfg: TrainConfig,
        module: Classifier,
        data: EyesDataModule,
        device: torch.device,
        *,
        compute_dtype: Callable[[int], torch.dtype],
        check: Callable[[], None],
        reuse: int = 1,
        kept: KeptCuts | None = None,
    ) -> None:
        self.cfg, self.network, self.data, self.device = cfg, module.network, data, device
        self.check, self.reuse, self.kept = check, reuse, kept
        self.folder = cache_folder() / "activations"
        self.splits = {
            "train": self._split("train", training_views(cfg.features.views, module.augment, cfg.seed)),
            "val": self._split("val", Views()),
        }
        if cfg.run_test and len(data.split.test):
            self.splits["test"] = self._split("test", Views(mirrored=module.flip_test))
        self.dtype = compute_dtype(sum(split.passes for split in self.splits.values()))
        self.key = EntryKey(
            backbone=cfg.model.backbone.target,
            stages=stage_digests(self.network),
            normalisation=f"{self.network.mean.flatten().tolist()} {self.network.std.flatten().tolist()}",
            size=data.size,
            color=data.color,
            dtype=cfg.features.dtype,
            computed=f"{self.dtype} {self.device.type}",
        )
        self._use(self.network.cut)

    def _use(self, cut: int) -> None:
        """Look for the entries of this number of frozen stages, 0 for none."""
        self.cut = cut
        self.pooled = self.is_pooled(cut)
        found = {name: self._open(split, cut, pooled=self.pooled) for name, split in self.splits.items()}
        self.stores = {name: store for name, store in found.items() if store is not None}
        self.missing = {name: split for name, split in self.splits.items() if name not in self.stores}

    @property
    def epochs(self) -> int:
        """Number of epochs of the run."""
        trainer = self.cfg.trainer
        if trainer.max_steps <= 0:
            return trainer.max_epochs
        return min(trainer.max_epochs, math.ceil(trainer.max_steps * trainer.batch_size / len(self.data.split.train)))

    @property
    def passes_to_store(self) -> int:
        """Forward passes of the frozen stages that the missing entries take."""
        return sum(split.passes for split in self.missing.values())

    @property
    def passes_without_store(self) -> int:
        """Forward passes of the frozen stages in the epochs of all runs that would read the entries."""
        split = self.data.split
        test = self.splits["test"].passes if "test" in self.splits else 0
        return self.reuse * self.epochs * (len(split.train) + len(split.val)) + test

    def follow(self, kept: KeptCuts) -> None:
        """Use the last cut that the plan of the sweep stores for this one; first build those that it is computed from.

        A cut that cannot be stored on this machine is left out: the next one is then computed from an earlier one.
        """
        own = kept.start(self.network.cut)
        sources: list[int] = []
        while (source := kept.source(sources[-1] if sources else own)) > 0:
            sources.append(source)
        for source in reversed(sources):
            self._use(source)
            if self.missing and self.obstacle() is None:
                with suppress(TooLargeForTypeError):
                    self.build()
        self._use(own)

    def is_stored(self, cut: int) -> bool:
        """Whether the entries of this number of frozen stages exist already."""
        return all(self._open(split, cut, pooled=self.is_pooled(cut)) for split in self.splits.values())

    def obstacle(self) -> str | None:
        """Why stored activations are impossible or save nothing, or None."""
        if self.cfg.model.mixup:
            return f"model.mixup={self.cfg.model.mixup:g} mixes images, not activations"
        if not self.cut:
            return "the plan of the sweep stores nothing for them"
        if not self.missing:
            return None
        if self.kept is None and self.cfg.features.mode == "auto" and self.passes_without_store <= self.passes_to_store:
            return (
                f"{len(self.splits['train'].views)} views per image take {self.passes_to_store:,} forward passes and "
                f"{self.epochs} epochs{self._in_trials()} take {self.passes_without_store:,}"
            )
        needed = sum(self._entry(split).nbytes for split in self.missing.values())
        limit = limit_bytes(self.folder, self.cfg.features.max_gb)
        keep = {self.data.store.folder, *(store.folder for store in self.stores.values()), *self._kept_folders()}
        if not make_room(self.folder, needed, limit, keep):
            return f"{needed / 1e9:.3g} GB of activations are more than features.max_gb allows ({limit / 1e9:.3g})"
        return None

    def build(self) -> ActivationSource:
        """Build the missing entries; the activations of all splits."""
        built = {name: STORE_POOL.add(open_or_build(self._entry(split))) for name, split in self.missing.items()}
        stores = self.stores | built
        return ActivationSource(
            {
                name: SplitActivations(stores[name], split.rows, mirrored=name == "test" and split.views.mirrored)
                for name, split in self.splits.items()
            }
        )

    def summary(self, source: ActivationSource) -> str:
        """What was computed and stored, for the log."""
        size = sum(split.store.nbytes for split in source.splits.values())
        views = len(self.splits["train"].views)
        stored = f"{views} view{'s' * (views > 1)} per image, {size / 1e6:,.3g} MB in {self.folder}"
        if not self.missing:
            return f"{self.cut} frozen stages do not run, their outputs are stored ({stored})"
        if self.kept is not None:
            return f"{self.cut} of {self.network.cut} frozen stages ran once, as planned for the sweep ({stored})"
        saved = self.passes_without_store - self.passes_to_store
        return f"{self.cut} frozen stages ran once, which saves {saved:,} forward passes{self._in_trials()} ({stored})"

    def _in_trials(self) -> str:
        return f" in {self.reuse} trials" if self.reuse > 1 else ""

    def _split(self, name: str, views: Views) -> _SplitPlan:
        index: NDArray[np.int64] = getattr(self.data.split, name)
        digests, first, rows = np.unique(
            np.array([self.data.samples.digests[i] for i in index]), return_index=True, return_inverse=True
        )
        return _SplitPlan(tuple(digests.tolist()), rows.astype(np.int64), index[first], views)

    def _open(self, split: _SplitPlan, cut: int, *, pooled: bool) -> ActivationStore | None:
        return STORE_POOL.open(self._folder(split, cut, pooled=pooled), len(split.digests), len(split.views))

    def _kept_folders(self) -> set[Path]:
        """The entries that the plan of the sweep stores for runs that share them with this one."""
        cuts = () if self.kept is None else self.kept.sources
        return {self._folder(split, cut, pooled=self.is_pooled(cut)) for cut in cuts for split in self.splits.values()}

    def is_pooled(self, cut: int) -> bool:
        """Whether only the mean of the last map is stored, because the head needs nothing else."""
        return cut == len(self.network.stages) and bool(getattr(self.network.head, "pools", False))

    def _folder(self, split: _SplitPlan, cut: int, *, pooled: bool) -> Path:
        return self.folder / self.key.name(cut, pooled=pooled, digests=split.digests, views=split.views)

    def _entry(self, split: _SplitPlan) -> Build:
        start, earlier = self._deepest(split)

        def source() -> ImageSource | StoreSource:
            if earlier is not None:
                return StoreSource(earlier)
            return ImageSource(self.data.store, self.data.rows(split.first), split.views, self.device)

        def prefix() -> FrozenPrefix:
            return FrozenPrefix(self.network, start, self.cut, pool=self.pooled, dtype=self.dtype, device=self.device)

        return Build(
            folder=self._folder(split, self.cut, pooled=self.pooled),
            images=len(split.digests),
            views=len(split.views),
            row_shape=self._row_shape(),
            dtype=self.cfg.features.dtype,
            source=source,
            prefix=prefix,
            check=self.check,
        )

    def _deepest(self, split: _SplitPlan) -> tuple[int, ActivationStore | None]:
        """The entry with the most stages from which this one can be computed, and their number; else 0 and None."""
        for cut in range(self.cut if self.pooled else self.cut - 1, 0, -1):
            store = self._open(split, cut, pooled=False)
            if store is not None:
                return cut, store
        return 0, None

    def _row_shape(self) -> tuple[int, ...]:
        """Shape of the frozen stages' output for one image: (C,) or (h, w, C)."""
        image = torch.zeros(1, 1, self.data.size, self.data.size, device=self.network.mean.device)
        with torch.no_grad():
            features = self.network.stages[: self.cut](self.network.normalise(image))
        _, channels, height, width = features.shape
        return (channels,) if self.pooled else (height, width, channels)
