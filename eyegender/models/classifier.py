"""The LightningModule: loss, optimization and metrics around a network."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from eyegender.data.loader import to_device
from eyegender.models.finite_check import FiniteCheck, NotFiniteError
from eyegender.models.losses import losses, mixed, most_likely
from eyegender.models.micro_batches import MicroBatches
from eyegender.models.optimization import START, Optimization, Progress, progress_of
from eyegender.models.split_metrics import SplitMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytorch_lightning.utilities.types import OptimizerLRScheduler

    from eyegender.data.loader import Batch
    from eyegender.models.augment import Augment
    from eyegender.models.network import Network

SPLITS = ("train", "val", "test")
VAL_PREDICTIONS = "val_predictions"  # in a checkpoint: logits, labels, losses and index of its epoch's validation
FUSED_FROM = 8  # trainable tensors; with fewer, a fused update is slower than a plain one


class Classifier(pl.LightningModule):
    """Trains a `Network` with cross-entropy, an optimizer and a scheduler.

    Args:
        network: maps pixels to logits.
        lr: peak learning rate of the backbone's stages.
        head_lr: peak learning rate of the head; None for `lr`.
        optimization: optimizer and scheduler. Biases and batch-norm parameters are exempt from weight decay.
        label_smoothing: label smoothing s in 0..1; targets become s/K and 1 - s + s/K for K classes.
        mixup: parameter of mixup, 0 or more: images and targets of a batch are averaged in pairs, with a weight from
            Beta(mixup, mixup) (Zhang et al. 2018, arXiv 1710.09412). Metrics then use the label with the larger weight.
        pos_weight: weight of label 1 in the training loss, or of each of K classes; 1 is the plain loss.
        augment: augmentation of training batches, or None.
        flip_test: average the logits of an image and its mirror image in the test.
        seed: seed of augmentation and dropout.
        micro_batches: split a batch that does not fit the memory into micro-batches and accumulate their gradients.
        max_steps: number of optimizer steps after which the run ends; -1 for no limit.
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
        pos_weight: float | Sequence[float] = 1.0,
        augment: Augment | None = None,
        flip_test: bool = False,
        seed: int = 0,
        micro_batches: bool = False,
        max_steps: int = -1,
    ) -> None:
        super().__init__()
        self.network = network
        self.lr, self.head_lr = lr, lr if head_lr is None else head_lr
        self.optimization = optimization or Optimization()
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.register_buffer("pos_weight", torch.tensor(pos_weight, dtype=torch.float32), persistent=False)
        self.augment, self.flip_test, self.seed, self.max_steps = augment, flip_test, seed, max_steps
        self.split_metrics = nn.ModuleDict({f"on_{split}": SplitMetrics() for split in SPLITS})
        self.train_micro_batches = MicroBatches(network, "training on") if micro_batches else None
        self.eval_micro_batches = MicroBatches(network, "evaluating") if micro_batches else None
        self.finite = FiniteCheck()
        self._indices = torch.empty(0, dtype=torch.int64)  # images of the latest step
        self._step, self._step_lr = 0, self.lr
        self._resumed_metrics: dict[str, Tensor] = {}
        self.epoch_values: dict[str, float] = {}  # latest value of every metric by name, such as `val/accuracy`

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 1 or 3, S, S) in 0..255 to logits (B,), or (B, K) for K classes."""
        return self.network(pixels)

    def _logits(self, inputs: Tensor, *, is_features: bool) -> Tensor:
        return self.network(inputs, is_features=is_features)

    def loss(self, logits: Tensor, targets: Tensor, *, training: bool) -> Tensor:
        """The loss (B,) of each image, as `losses.losses`; class weights and smoothing apply only in training."""
        if not training:
            return losses(logits, targets)
        return losses(logits, targets, self.pos_weight, self.label_smoothing)

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        self._indices, self._step, self._step_lr = batch.indices, self.global_step, self.current_lr()
        # A GPU may still be computing the values that the last step recorded.
        self.finite.flush(before=self.global_step - 1)
        if self.train_micro_batches is not None:
            return self.train_micro_batches.run(lambda count: self._accumulate(batch, count), len(batch.labels))
        pixels, targets = self._augmented(batch)
        logits = self._logits(pixels, is_features=batch.is_features)
        each = self.loss(logits, targets, training=True)
        loss = self._check_finite(each.mean())
        self._metrics("train").update(logits, most_likely(targets), each, batch.indices)
        return loss

    def _accumulate(self, batch: Batch, count: int) -> Tensor:
        """Forward and backward of `count` micro-batches; their gradients add up to those of the batch's mean loss.

        The returned loss has no graph, so that `backward` has nothing left to do.
        """
        self.trainer.optimizers[0].zero_grad()  # gradients of a failed attempt, too
        found = []
        pixels, targets = self._augmented(batch)
        for inputs, target in zip(pixels.tensor_split(count), targets.tensor_split(count), strict=True):
            logits = self._logits(inputs, is_features=batch.is_features)
            each = self.loss(logits, target, training=True)
            self.trainer.strategy.backward(self._check_finite(each.sum() / len(batch.labels)), None)
            found.append((logits.detach(), each.detach()))
        all_logits, all_losses = (torch.cat(values) for values in zip(*found, strict=True))
        self._metrics("train").update(all_logits, most_likely(targets), all_losses, batch.indices)
        return all_losses.mean()

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        if self.train_micro_batches is None:  # `_accumulate` has computed the gradients before this call
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Raises NotFiniteError if the learning rate, or its product with weight decay, overflows the weights' type."""
        with self.overflow_is_not_finite():
            super().optimizer_step(*arguments, **options)

    @contextmanager
    def overflow_is_not_finite(self) -> Iterator[None]:
        """Raises NotFiniteError in place of torch's error about a number in the block that overflows."""
        try:
            yield
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            raise NotFiniteError("step", self._step, self._step_lr, self._indices.tolist()) from error

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - always by norm
    ) -> None:
        """Raises NotFiniteError, except with a gradient scaler, which skips steps with infinite gradients itself."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._check_finite(norm, "gradient")
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def _augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The augmented inputs of the batch and its targets, which are probabilities after mixup, if it is on."""
        # Dropout and augmentation depend only on seed, step and rank: a resumed run draws the same random numbers as an
        # uninterrupted one.
        self._seed_generators(_mix(self.seed, self.global_step, self.global_rank))
        pixels: Tensor = batch.pixels
        if self.augment is not None and not batch.is_features:
            pixels = self.augment(pixels, torch.default_generator)
        if not self.mixup:
            return pixels, batch.labels
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        others = to_device(torch.randperm(len(batch.labels)), pixels.device)
        targets = mixed(batch.labels, others, share, getattr(self.network, "outputs", 1))
        return pixels.float().lerp(pixels[others].float(), share), targets

    def _seed_generators(self, seed: int) -> None:
        """Seed the generators that a step draws from.

        Without a GPU it is one generator: `torch.manual_seed` takes a millisecond longer, because it notes for every
        kind of accelerator, with a traceback, that it must be seeded if it is ever used.
        """
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _check_finite(self, value: Tensor, what: str = "loss", indices: Tensor | None = None) -> Tensor:
        self.finite.record(value, what, self._step, self._step_lr, self._indices if indices is None else indices)
        return value

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        self._evaluate("val", batch, flip=False)

    def test_step(self, batch: Batch, _batch_idx: int) -> None:  # noqa: PT019 - not a test
        self._evaluate("test", batch, flip=self.flip_test)

    def _evaluate(self, split: str, batch: Batch, *, flip: bool) -> None:
        if self.eval_micro_batches is None:
            logits = self._eval_logits(batch, flip=flip)
        else:
            logits = self.eval_micro_batches.run(
                lambda count: torch.cat([self._eval_logits(part, flip=flip) for part in _divided(batch, count)]),
                len(batch.labels),
            )
        each = self.loss(logits, batch.labels, training=False)
        # A validation loss that is not finite comes from the weights of the latest training step.
        self._check_finite(each.mean(), f"{split} loss", None if split == "val" else batch.indices)
        self._metrics(split).update(logits, batch.labels, each, batch.indices)

    def _eval_logits(self, batch: Batch, *, flip: bool) -> Tensor:
        logits = self._logits(batch.pixels, is_features=batch.is_features)
        if flip:
            mirrored = batch.pixels.flip(3) if batch.mirrored is None else batch.mirrored
            logits = (logits + self._logits(mirrored, is_features=batch.is_features)) / 2
        return logits

    def on_validation_epoch_start(self) -> None:
        # After the last training step no further loss would show weights that are not finite.
        weights = [tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()]
        self._check_finite(torch.nn.utils.get_total_norm(weights, norm_type=math.inf), "largest weight")
        self.finite.flush()

    def on_validation_epoch_end(self) -> None:
        # logger=False: a callback sends the metrics of an epoch to MLflow as one batch.
        self.log_dict(self.publish_epoch(), logger=False, rank_zero_only=True)

    def on_test_epoch_end(self) -> None:
        self.finite.flush()
        values = self._publish("test", reset=False)  # `predictions` reads them afterwards
        self.log_dict(values, logger=False, rank_zero_only=True)

    def publish_epoch(self) -> dict[str, float]:
        """The metrics of the epoch that ends with this validation, which are in `epoch_values` from now on."""
        self.finite.flush()
        # Lightning validates after the last batch of an epoch and before it calls on_train_epoch_end of any callback:
        # the callbacks find the metrics of both splits.
        train = self._publish("train") if self._metrics("train").logits else {}
        return train | self._publish("val")

    def _publish(self, split: str, *, reset: bool = True) -> dict[str, float]:
        values = {f"{split}/{name}": value for name, value in self._metrics(split).compute().items()}
        self.epoch_values |= values
        if reset:
            self._metrics(split).reset()
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the predictions of the current epoch, so that its metrics cover all its images after a resumption."""
        self.finite.flush()
        metrics = self._metrics("train")
        if metrics.logits:
            checkpoint["train_collected"] = metrics.collected()
        elif validated := self._metrics("val").computed_on:  # of the epoch that has ended
            checkpoint[VAL_PREDICTIONS] = validated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if collected := checkpoint.get("train_collected"):
            self._resumed_metrics = {name: tensor.to(self.device) for name, tensor in collected.items()}
        groups, remaining = self.parameter_groups(), self._remaining_steps(progress_of(checkpoint))
        self.optimization.reschedule(checkpoint, groups, remaining, fused=self._fuses(groups))

    def on_train_start(self) -> None:
        if self._resumed_metrics:
            self._metrics("train").update(**self._resumed_metrics)
            self._resumed_metrics = {}

    def predictions(self, split: str) -> dict[str, Tensor]:
        """Logits, labels, losses and index of the last evaluation of `split` by all ranks, in order of index."""
        return self._metrics(split).computed_on

    def _metrics(self, split: str) -> SplitMetrics:
        metrics = self.split_metrics[f"on_{split}"]
        assert isinstance(metrics, SplitMetrics)
        return metrics

    def current_lr(self) -> float:
        """The learning rate of the backbone at this step."""
        optimizers = self.trainer.optimizers
        return float(optimizers[0].param_groups[0]["lr"]) if optimizers else math.nan

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer has four groups at every depth, empty ones included, so that they always match a checkpoint."""
        groups = self.parameter_groups()
        optimizer = self.optimization.build_optimizer(groups, fused=self._fuses(groups))
        scheduler = self.optimization.build_scheduler(optimizer, self._remaining_steps())
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _fuses(self, groups: list[dict[str, Any]]) -> bool:
        """Whether the optimizer updates all tensors in one call: not for a head alone, nor with a gradient scaler."""
        tensors = sum(len(group["params"]) for group in groups)
        scales = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        return tensors >= FUSED_FROM and self.device.type in {"cpu", "cuda"} and not scales

    def _remaining_steps(self, done: Progress = START) -> int:
        # Lightning's `estimated_stepping_batches` loads the data before the checkpoint's position in it is restored: a
        # run that was interrupted in the middle of an epoch would repeat that epoch.
        trainer = self.trainer
        assert trainer.max_epochs is not None
        batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = max(0, batches * (trainer.max_epochs - done.epochs) - done.batches)
        return min(steps, max(0, self.max_steps - done.steps)) if self.max_steps > 0 else steps

    def frozen_names(self) -> list[str]:
        """The names in the state dict of what does not change in training."""
        return [f"network.stages.{name}" for name in self.network.prefix.state_dict()]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimizer: backbone and head, each with and without weight decay."""
        groups: list[dict[str, Any]] = [
            {"name": f"{module}{kind}", "params": [], "lr": lr, "weight_decay": decay}
            for module, lr in (("backbone", self.lr), ("head", self.head_lr))
            for kind, decay in (("", self.optimization.weight_decay), ("_no_decay", 0.0))
        ]
        for name, parameter in self.network.trainable():
            position = 2 * name.startswith("head.") + (parameter.ndim == 1)
            groups[position]["params"].append(parameter)
        return groups


def _divided(batch: Batch, count: int) -> list[Batch]:
    pixels = batch.pixels.tensor_split(count)
    mirrored = [None] * count if batch.mirrored is None else batch.mirrored.tensor_split(count)
    return [batch._replace(pixels=p, mirrored=m) for p, m in zip(pixels, mirrored, strict=True)]


def _mix(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed from three numbers; neighboring numbers give unrelated random streams."""
    return hash((seed, step, rank)) & 0x7FFF_FFFF_FFFF_FFFF
