"""The plan of a sweep for stored activations, as its trials read it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.core.schema import TrainConfig

# User attribute of the study that holds the plan.
PLAN_ATTR = "activation_plan"
_VERSION = 1

# Keys that a sweep may vary without changing what is stored: images, views and frozen stages stay the same.
REUSE_KEYS = frozenset(
    (
        *(f"model.{name}" for name in ("lr", "head_lr", "dropout", "ema")),
        *(f"model.{name}" for name in ("label_smoothing", "pos_weight")),
        *(f"trainer.{name}" for name in ("batch_size", "max_epochs", "max_steps", "gradient_clip")),
    )
)
_REUSE_SECTIONS = frozenset({"optimizer", "scheduler"})
# What else differs between runs that can read the same activations: how many stages they train, and where they run.
_APART = frozenset({"model.finetune_depth", "features.mode", "features.max_gb"})
_SECTIONS = ("data", "model", "features", "seed", "run_test")


def keeps_activations(key: str) -> bool:
    """Whether two trials that differ in this key alone can read the same activations."""
    return key in REUSE_KEYS or key.partition(".")[0] in _REUSE_SECTIONS


@dataclass(frozen=True)
class KeptCuts:
    """The cuts whose activations a sweep stores, for runs that could share them.

    Args:
        sources: for each stored cut, the stored cut from which it is computed; 0 means the images.
    """

    sources: Mapping[int, int]

    def start(self, cut: int) -> int:
        """The last stored cut that a run with `cut` frozen stages can start from; 0 means the images."""
        return max((kept for kept in self.sources if kept <= cut), default=0)

    def source(self, cut: int) -> int:
        """The stored cut from which a stored cut is computed; 0 means the images."""
        return self.sources.get(cut, 0)


def group_of(cfg: TrainConfig) -> str:
    """A name, 16 hex digits, that runs share if they can read the same activations wherever their cuts allow it."""
    values = cfg.model_dump(mode="json", by_alias=True, include=set(_SECTIONS))
    for section, keys in values.items():
        if isinstance(keys, dict):
            for key in [key for key in keys if f"{section}.{key}" in REUSE_KEYS | _APART]:
                del keys[key]
    values["precision"] = cfg.trainer.precision
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def encode_plan(groups: Mapping[str, Mapping[int, int]]) -> dict[str, Any]:
    """The plan as plain data for `PLAN_ATTR`: for each group, the source of each cut that is stored."""
    return {"version": _VERSION, "groups": {name: list(map(list, sources.items())) for name, sources in groups.items()}}


def kept_cuts(study_attrs: Mapping[str, Any], cfg: TrainConfig) -> KeptCuts | None:
    """What the plan of the study stores for runs like this one; None if it has no plan for them.

    Args:
        study_attrs: the user attributes of the study.
        cfg: config of the run.
    """
    plan = study_attrs.get(PLAN_ATTR)
    if cfg.features.mode != "auto" or not isinstance(plan, dict) or plan.get("version") != _VERSION:
        return None
    pairs = plan.get("groups", {}).get(group_of(cfg))
    return None if pairs is None else KeptCuts({int(cut): int(source) for cut, source in pairs if source < cut})
