"""How many trials of a sweep will read what this one stores of its frozen stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig

if TYPE_CHECKING:
    from hydra_plugins.optuna_study import TrialHandle

# Keys that a sweep may vary without another entry for it: none of them changes pictures, views or frozen stages.
HARMLESS = frozenset(
    (
        *(f"model.{name}" for name in ("lr", "head_lr", "dropout", "ema")),
        *(f"model.{name}" for name in ("label_smoothing", "pos_weight")),
        *(f"trainer.{name}" for name in ("batch_size", "max_epochs", "max_steps", "gradient_clip")),
    )
)


def _is_harmless(key: str) -> bool:
    return key in HARMLESS or key.partition(".")[0] in {"optimizer", "scheduler"}


def sharing_trials(trial: TrialHandle | None) -> int:
    """1 for a run by itself, and where the sweep varies anything that may change what is stored, the depth above all.

    Then nobody knows how often a sampler will come back to it, and `features=on` is the user's to say. Otherwise the
    trials from this one to the last.
    """
    if trial is None or not HydraConfig.initialized() or not all(map(_is_harmless, trial.params)):
        return 1
    number = HydraConfig.get().sweeper.get("n_trials")
    return max(1, int(number) - trial.number) if number is not None else 1
