"""The LightningModule: loss, optimization and metrics around either backbone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from eyegender.models.finite_check import FiniteCheck, NotFiniteError
from eyegender.models.memory import Parts
from eyegender.models.metrics import SplitMetrics
from eyegender.models.optimization import START, Optimization, Progress, progress_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytorch_lightning.utilities.types import OptimizerLRScheduler

    from eyegender.data.batches import Batch
    from eyegender.models.augment import Augment
    from eyegender.models.network import Network

PARTS = ("train", "val", "test")
FUSED_FROM = 8  # trainable tensors; with fewer, starting the threads takes longer than the update


class Classifier(pl.LightningModule):
    """Binary cross-entropy, an optimizer and its scheduler around a `Network`.

    Args:
        network: maps pixels to logits.
        lr: peak learning rate of the backbone's stages.
        head_lr: peak learning rate of the head.
        optimization: optimizer and scheduler. Weight decay is not applied to biases and batch-norm.
        label_smoothing: 0..1; targets become s/2 and 1 - s/2.
        mixup: 0 or more; pictures and targets of a batch are mixed in pairs, by a weight from Beta(mixup, mixup) (Zhang
            et al. 2018, arXiv 1710.09412). Metrics then count the label with the larger weight.
        pos_weight: weight of the positive (male) class in the training loss; 1 is the plain loss.
        augment: applied to training batches, or None.
        flip_test: average the logits of a picture and its mirror image when testing.
        seed: of augmentation and dropout.
        halve: a batch that does not fit the memory is worked off in halves, quarters and so on, with added gradients.
        max_steps: optimizer steps after which the run ends, -1 for as many as its epochs have.
    """

    pos_weight: Tensor

    def __init__(
        self,
        network: Network,
        *,
        lr: float = 1e-3,
        head_lr: float | None = None,
        optimization: Optimization | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        pos_weight: float = 1.0,
        augment: Augment | None = None,
        flip_test: bool = False,
        seed: int = 0,
        halve: bool = False,
        max_steps: int = -1,
    ) -> None:
        super().__init__()
        self.network = network
        self.lr, self.head_lr = lr, lr if head_lr is None else head_lr
        self.optimization = optimization or Optimization()
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)), persistent=False)
        self.augment, self.flip_test, self.seed, self.max_steps = augment, flip_test, seed, max_steps
        # Lightning logs nothing here: a ModuleDict would put the collected logits into checkpoints.
        self.split_metrics = nn.ModuleDict({f"on_{part}": SplitMetrics() for part in PARTS})
        # Run, config and data that a checkpoint belongs to, asked for when it is written.
        self.origin: Callable[[], dict[str, Any]] = dict
        self.halve = halve
        self.train_parts, self.eval_parts = Parts(network, "training on"), Parts(network, "evaluating")
        self.finite = FiniteCheck()
        self._indices = torch.empty(0, dtype=torch.int64)  # of the pictures of the latest step
        self._step, self._step_lr = 0, self.lr
        self._resumed_metrics: dict[str, Tensor] = {}
        self.epoch_values: dict[str, float] = {}  # latest value of every metric, with its part: `val/accuracy`

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 1 or 3, S, S) in 0..255 to logits (B,)."""
        return self.network(pixels)

    def _logits(self, given: Tensor, *, at_cut: bool) -> Tensor:
        return self.network(given, at_cut=at_cut)

    def loss(self, logits: Tensor, targets: Tensor, *, training: bool) -> Tensor:
        """Cross-entropy of each picture (B,) with targets in 0..1; weights and smoothing apply in training only."""
        target = targets.float()
        if not training:
            return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        weight = self.pos_weight
        return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        self._indices, self._step, self._step_lr = batch.indices, self.global_step, self.current_lr()
        # Answers to the last step's questions may still be on their way.
        self.finite.settle(before=self.global_step - 1)
        if self.halve:
            return self.train_parts.attempt(lambda parts: self._step_in_parts(batch, parts), len(batch.labels))
        pixels, targets = self._drawn(batch)
        logits = self._logits(pixels, at_cut=batch.at_cut)
        losses = self.loss(logits, targets, training=True)
        loss = self._finite(losses.mean())
        self._metrics("train").update(logits, (targets > 0.5).to(batch.labels.dtype), losses, batch.indices)
        return loss

    def _step_in_parts(self, batch: Batch, parts: int) -> Tensor:
        """Forward and backward of one part after the other; the gradients add up to those of the batch's mean loss.

        Returns the loss without its graph: `backward` has nothing left to do.
        """
        self.trainer.optimizers[0].zero_grad()  # of what a failed attempt has added already, too
        found = []
        pixels, targets = self._drawn(batch)
        for part, of_part in zip(pixels.tensor_split(parts), targets.tensor_split(parts), strict=True):
            logits = self._logits(part, at_cut=batch.at_cut)
            losses = self.loss(logits, of_part, training=True)
            self.trainer.strategy.backward(self._finite(losses.sum() / len(batch.labels)), None)
            found.append((logits.detach(), losses.detach()))
        every, losses = (torch.cat(values) for values in zip(*found, strict=True))
        self._metrics("train").update(every, (targets > 0.5).to(batch.labels.dtype), losses, batch.indices)
        return losses.mean()

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        if not self.halve:  # by now `_step_in_parts` has filled the gradients
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(self, *given: Any, **named: Any) -> None:
        """Raises NotFiniteError where the rate, or rate times weight decay, is larger than any number of a weight."""
        try:
            super().optimizer_step(*given, **named)
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            raise NotFiniteError("step", self._step, self._step_lr, self._indices.tolist()) from error

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - by norm
    ) -> None:
        """Raises NotFiniteError, unless the precision scales losses: a scaler tries infinite gradients out."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._finite(norm, "gradient")
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def _drawn(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's pixels, augmented, and its targets in 0..1; both mixed if wanted."""
        # Dropout and augmentation are functions of seed, step and rank: an interrupted run draws what a whole one would
        # have drawn.
        torch.manual_seed(_mix(self.seed, self.global_step, self.global_rank))
        pixels: Tensor = batch.pixels
        if self.augment is not None and not batch.at_cut:
            pixels = self.augment(pixels, torch.default_generator)
        if not self.mixup:
            return pixels, batch.labels
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        others = torch.randperm(len(batch.labels)).to(pixels.device)
        targets = batch.labels.float()
        return pixels.float().lerp(pixels[others].float(), share), targets.lerp(targets[others], share)

    def _finite(self, value: Tensor, what: str = "loss", indices: Tensor | None = None) -> Tensor:
        self.finite.ask(value, what, self._step, self._step_lr, self._indices if indices is None else indices)
        return value

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        self._evaluate("val", batch, flip=False)

    def test_step(self, batch: Batch, _batch_idx: int) -> None:  # noqa: PT019 - not a test
        self._evaluate("test", batch, flip=self.flip_test)

    def _evaluate(self, part: str, batch: Batch, *, flip: bool) -> None:
        if self.halve:
            logits = self.eval_parts.attempt(lambda n: self._evaluated_in_parts(batch, n, flip), len(batch.labels))
        else:
            logits = self._evaluated(batch, flip=flip)
        losses = self.loss(logits, batch.labels, training=False)
        # In validation it is the latest training step that has spoilt the weights.
        self._finite(losses.mean(), f"{part} loss", None if part == "val" else batch.indices)
        self._metrics(part).update(logits, batch.labels, losses, batch.indices)

    def _evaluated_in_parts(self, batch: Batch, parts: int, flip: bool) -> Tensor:
        pixels = batch.pixels.tensor_split(parts)
        mirrored = [None] * parts if batch.mirrored is None else batch.mirrored.tensor_split(parts)
        pieces = [batch._replace(pixels=p, mirrored=m) for p, m in zip(pixels, mirrored, strict=True)]
        return torch.cat([self._evaluated(piece, flip=flip) for piece in pieces])

    def _evaluated(self, batch: Batch, *, flip: bool) -> Tensor:
        logits = self._logits(batch.pixels, at_cut=batch.at_cut)
        if flip:
            mirrored = batch.pixels.flip(3) if batch.mirrored is None else batch.mirrored
            logits = (logits + self._logits(mirrored, at_cut=batch.at_cut)) / 2
        return logits

    def on_validation_epoch_start(self) -> None:
        # After the last step no further loss would show what that step has made of the weights.
        kept = [tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()]
        self._finite(torch.nn.utils.get_total_norm(kept, norm_type=math.inf), "largest weight")
        self.finite.settle()

    def on_validation_epoch_end(self) -> None:
        self.finite.settle()
        # Lightning validates after an epoch's last batch and before any callback hears of the epoch's end, so that here
        # callbacks find both parts of the epoch.
        if self._metrics("train").logits:
            self._publish("train")
        self._publish("val")

    def on_test_epoch_end(self) -> None:
        self.finite.settle()
        self._publish("test", reset=False)  # the predictions themselves are read afterwards

    def _publish(self, part: str, *, reset: bool = True) -> None:
        values = {f"{part}/{name}": value for name, value in self._metrics(part).compute().items()}
        self.epoch_values |= values
        # logger=False: the tracking callback writes an epoch's metrics as one batch.
        self.log_dict(values, logger=False, rank_zero_only=True)
        if reset:
            self._metrics(part).reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """In the middle of an epoch, what was collected of it goes along: its metrics will cover all its pictures."""
        self.finite.settle()
        checkpoint |= self.origin()
        metrics = self._metrics("train")
        if metrics.logits:
            checkpoint["train_collected"] = metrics.collected()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if collected := checkpoint.get("train_collected"):
            self._resumed_metrics = {name: tensor.to(self.device) for name, tensor in collected.items()}
        groups, remaining = self.parameter_groups(), self._remaining_steps(progress_of(checkpoint))
        self.optimization.reschedule(checkpoint, groups, remaining, fused=self._fuses(groups))

    def on_train_start(self) -> None:
        if self._resumed_metrics:
            self._metrics("train").update(**self._resumed_metrics)
            self._resumed_metrics = {}

    def predictions(self, part: str) -> dict[str, Tensor]:
        """What `part` was last evaluated on: logits, labels, losses, index, each (N,), in order of index."""
        return self._metrics(part).collected()

    def _metrics(self, part: str) -> SplitMetrics:
        metrics = self.split_metrics[f"on_{part}"]
        assert isinstance(metrics, SplitMetrics)
        return metrics

    def current_lr(self) -> float:
        """The backbone's learning rate at this step."""
        optimizers = self.trainer.optimizers
        return float(optimizers[0].param_groups[0]["lr"]) if optimizers else math.nan

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Four groups whatever the depth, empty ones included, so that a checkpoint's groups always fit."""
        groups = self.parameter_groups()
        optimizer = self.optimization.build_optimizer(groups, fused=self._fuses(groups))
        scheduler = self.optimization.build_scheduler(optimizer, self._remaining_steps())
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _fuses(self, groups: list[dict[str, Any]]) -> bool:
        """Whether one call updates all tensors: not the few of a head, nor where a scaler wants to see gradients."""
        tensors = sum(len(group["params"]) for group in groups)
        scales = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        return tensors >= FUSED_FROM and self.device.type in {"cpu", "cuda"} and not scales

    def _remaining_steps(self, done: Progress = START) -> int:
        # Not Lightning's `estimated_stepping_batches`: that loads the data before a checkpoint's place in it is
        # restored, and a run that was interrupted in the middle of an epoch would begin that epoch anew.
        trainer = self.trainer
        assert trainer.max_epochs is not None
        batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = max(0, batches * (trainer.max_epochs - done.epochs) - done.batches)
        return min(steps, max(0, self.max_steps - done.steps)) if self.max_steps > 0 else steps

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: backbone and head, each with and without weight decay."""
        groups: list[dict[str, Any]] = [
            {"name": f"{part}{kind}", "params": [], "lr": lr, "weight_decay": decay}
            for part, lr in (("backbone", self.lr), ("head", self.head_lr))
            for kind, decay in (("", self.optimization.weight_decay), ("_no_decay", 0.0))
        ]
        for name, parameter in self.network.trainable():
            position = 2 * name.startswith("head.") + (parameter.ndim == 1)
            groups[position]["params"].append(parameter)
        return groups


def _mix(seed: int, step: int, rank: int) -> int:
    """One 63-bit seed from three numbers; neighbours give unrelated streams."""
    return hash((seed, step, rank)) & 0x7FFF_FFFF_FFFF_FFFF
