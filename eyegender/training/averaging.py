"""A moving average of the weights that train, validated and saved in place of the weights themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.models.classifier import Classifier

_COUNT = "n_averaged"


def averaging_decay(ema: float | Literal["auto"] | None, images: int, batch_size: int) -> float | None:
    """Decay per step for `model.ema`; `auto` has a memory of one epoch of so many images, None is none."""
    return 1 - 1 / max(1, math.ceil(images / batch_size)) if ema == "auto" else ema


class AveragedWeights(pl.Callback):
    """Exponential moving average (EMA), updated after every optimizer step.

    The results and the checkpoints are those of Lightning's `EMAWeightAveraging`, and each continues the other's. But
    frozen weights are not averaged: they keep their exact values, and a step does not take time for them.

    Args:
        decay: share of the old average that a step keeps, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []  # average and current value; both keep their storage in a fit
        self._count = 0
        self._last_step = 0

    @property
    def state_key(self) -> str:
        return "EMAWeightAveraging"  # that of Lightning's callback, which wrote the checkpoints of version 0.1

    def on_fit_start(self, _trainer: Any, module: Classifier) -> None:  # type: ignore[override]
        start, current = self._average, _trained(module)
        self._average = {name: start.get(name, tensor).to(tensor.device, copy=True) for name, tensor in current.items()}
        self._pairs = [(self._average[name], tensor) for name, tensor in current.items()]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step <= self._last_step:
            return
        self._last_step = trainer.global_step
        for average, current in self._pairs:
            average.copy_(self.decay * average + (1 - self.decay) * current if self._count else current)
        self._count += 1

    def on_validation_epoch_start(self, *_: Any) -> None:
        self._swap()

    def on_validation_epoch_end(self, *_: Any) -> None:
        self._swap()

    @torch.no_grad()
    def on_train_end(self, *_: Any) -> None:
        for average, current in self._pairs:
            current.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"latest_update_step": self._last_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last_step = state["latest_update_step"]

    def on_save_checkpoint(self, _trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        if not self._average:
            return
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._average}
        checkpoint["averaging_state"] = {_COUNT: torch.tensor(self._count)}

    def on_load_checkpoint(self, _trainer: Any, module: Classifier, checkpoint: Mapping[str, Any]) -> None:  # type: ignore[override]
        self._average = {name: checkpoint["state_dict"][name] for name in _trained(module)}
        if "current_model_state" in checkpoint:
            self._count = int(checkpoint["averaging_state"][_COUNT])
            module.load_state_dict(checkpoint["current_model_state"])

    @torch.no_grad()
    def _swap(self) -> None:
        for average, current in self._pairs:
            kept = average.clone()
            average.copy_(current)
            current.copy_(kept)


def _trained(module: Classifier) -> dict[str, Tensor]:
    """The weights and batch-norm statistics that training changes, by their names in the module's state dict."""
    network = module.network
    parts = {"network.stages.": network.suffix, "network.head.": network.head}
    return {f"{prefix}{name}": tensor for prefix, part in parts.items() for name, tensor in part.state_dict().items()}
