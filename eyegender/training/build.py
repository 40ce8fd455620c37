"""Builds the objects of a run from its config: data module, network, classifier and trainer."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.data.readers import build_reader, class_names, split_options
from eyegender.models.augment import Augment
from eyegender.models.backbone import Backbone, load_backbone, resolve_depth
from eyegender.models.classifier import Classifier
from eyegender.models.heads import build_head, outputs_for
from eyegender.models.initial_backbone import build_backbone
from eyegender.models.libraries.network_names import check_label
from eyegender.models.network import Network
from eyegender.models.optimization import Optimization
from eyegender.models.saved_network import ModelSpec, as_pairs
from eyegender.models.weights import Weights
from eyegender.training.classes import check_outputs, class_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.core.schema import ModelSection, TrainConfig
    from eyegender.data.data_module import EyesDataModule


@dataclass(frozen=True)
class BuiltNetwork:
    """A network and the origin of its initial weights."""

    network: Network
    weights: Weights


@dataclass(frozen=True)
class BuiltModel:
    """A classifier, the specification of its network and the origin of its initial weights."""

    classifier: Classifier
    spec: ModelSpec
    weights: Weights


@dataclass(frozen=True)
class TrainerSettings:
    """The arguments of Lightning's trainer that follow from the config and the machine.

    Args:
        accelerator: `cpu` or `gpu`, or another name that Lightning knows.
        devices: number of devices per machine, or `auto`.
        strategy: name of Lightning's strategy.
        num_nodes: number of machines.
        precision: Lightning's name of the precision.
        max_epochs: number of epochs.
        gradient_clip: maximum norm of the gradient, or None.
    """

    accelerator: str
    devices: int | str
    strategy: str
    num_nodes: int
    precision: str
    max_epochs: int
    gradient_clip: float | None


@dataclass(frozen=True)
class Ranks:
    """The number of processes that train together, and whether this one has rank zero."""

    world_size: int
    is_zero: bool


_checked: set[TrainerSettings] = set()


def backbone_class(model: ModelSection) -> type[Backbone]:
    """The backbone's class.

    Raises:
        UserError: the class is neither part of this package nor of an allowed one, or an argument is wrong.
    """
    return load_backbone(model.backbone.target, model.backbone.arguments)


def measured_name(model: ModelSection) -> str:
    """The name under which measurements of the network are cached; two libraries have networks of the same name."""
    library = backbone_class(model).library
    return model.name if library == Backbone.library else f"{library}'s {model.name}"


def build_data(cfg: TrainConfig) -> EyesDataModule:
    """The data module, before it has read anything. Its image size is that of the config, or the backbone's default."""
    from eyegender.data.data_module import EyesDataModule

    data = cfg.data
    return EyesDataModule(
        reader=build_reader(data),
        size=backbone_class(cfg.model).check_size(data.size),
        color=data.color,
        batch_size=cfg.trainer.batch_size,
        eval_batch_size=cfg.trainer.eval_batch_size,
        seed=cfg.seed,
        on_bad=data.on_bad,
        on_conflict=data.on_conflict,
        cache_gb=cfg.features.max_gb,
        **split_options(data),
    )


def build_network(cfg: TrainConfig, *, fresh: bool = True) -> BuiltNetwork:
    """The network with its initial weights.

    Args:
        cfg: config of the run.
        fresh: load the initial weights; a run that resumes does not need them.

    Raises:
        UserError: the backbone, head or depth does not exist, `model.name` is that of another network, or the weights
            are missing or do not fit.
    """
    model = cfg.model
    cls = backbone_class(model)
    if fresh:  # a run of an earlier version may go on with any label
        check_label(model.name, cls)
    cls.check_size(cfg.data.size)
    backbone, weights = build_backbone(cls, model.weights if fresh else None)
    if not fresh:
        weights = Weights("checkpoint", str(cfg.ckpt_path))
    depth = resolve_depth(model.finetune_depth, len(backbone.stages), cls.name)
    outputs = outputs_for(len(class_names(cfg.data) or ("0", "1")))
    head = build_head(model.head, backbone.channels, model.dropout, outputs)
    return BuiltNetwork(Network(backbone, head, depth), weights)


def build_optimization(cfg: TrainConfig) -> Optimization:
    """The classes and arguments of optimizer and scheduler.

    Raises:
        UserError: a class is not allowed, or rejects its arguments.
    """
    optimizer, scheduler = cfg.optimizer, cfg.scheduler
    optimization = Optimization(
        load_class(optimizer.target, Optimizer, "torch.optim"),
        optimizer.arguments,
        None if scheduler.target is None else load_class(scheduler.target, LRScheduler, "torch.optim"),
        scheduler.arguments,
        scheduler.warmup,
    )
    optimization.check()
    return optimization


def build_model(
    cfg: TrainConfig, *, classes: tuple[str, ...], weights: float | Sequence[float], built: BuiltNetwork | None = None
) -> BuiltModel:
    """The classifier.

    Args:
        cfg: config of the run.
        classes: names of the classes in the order of the labels.
        weights: see `class_weights`.
        built: the network, if it is already built.
    """
    model, built = cfg.model, built or build_network(cfg)
    augment = cfg.data.augment
    classifier = Classifier(
        built.network,
        lr=model.lr,
        head_lr=model.head_lr,
        optimization=build_optimization(cfg),
        label_smoothing=model.label_smoothing,
        mixup=model.mixup,
        pos_weight=weights,
        augment=Augment(**augment.model_dump(exclude={"enabled"})) if augment.enabled else None,
        flip_test=model.flip_test,
        seed=cfg.seed,
        micro_batches=cfg.trainer.on_oom == "halve",
        max_steps=cfg.trainer.max_steps,
    )
    spec = ModelSpec(
        backbone=model.backbone.target,
        head=model.head,
        depth=len(built.network.suffix),
        size=backbone_class(model).check_size(cfg.data.size),
        color=cfg.data.color,
        classes=classes,
        flip_average=model.flip_test,
        arguments=as_pairs(backbone_class(model).arguments),
    )
    return BuiltModel(classifier, spec, built.weights)


def prepare_network(cfg: TrainConfig, *, fresh: bool) -> BuiltNetwork:
    """Seed all random numbers, build the network and check that it can train; the arguments are those of build_network.

    Raises:
        UserError: as for `build_network` and `check_smallest_batch`.
    """
    pl.seed_everything(cfg.seed, verbose=False)
    built = build_network(cfg, fresh=fresh)
    size = backbone_class(cfg.model).check_size(cfg.data.size)
    check_smallest_batch(built.network, cfg, size, cfg.trainer.batch_size)
    return built


def prepare_model(cfg: TrainConfig, data: EyesDataModule, built: BuiltNetwork) -> BuiltModel:
    """The classifier for the classes of `data`, in the memory format of the config."""
    check_outputs(data, built.network)
    classes = data.samples.classes
    counts = np.bincount(data.samples.labels[data.split.train], minlength=len(classes)).astype(np.int64)
    if cfg.trainer.channels_last in {True, "auto"}:
        built.network.use_channels_last()
    return build_model(cfg, classes=classes, weights=class_weights(cfg, classes, counts), built=built)


def check_batches(cfg: TrainConfig, data: EyesDataModule, network: Network, ranks: Ranks) -> None:
    """Check that batch-norm can train on the smallest batch of an epoch; raises UserError as check_smallest_batch."""
    per_rank = -(-len(data.split.train) // ranks.world_size)
    batches = -(-per_rank // cfg.trainer.batch_size)
    check_smallest_batch(network, cfg, data.size, per_rank // batches)


def check_smallest_batch(network: Network, cfg: TrainConfig, size: int, smallest: int) -> None:
    """Check that batch-norm can train on a batch of `smallest` images.

    Raises:
        UserError: a stage that trains would have one value per channel, which has no variance.
    """
    if smallest > 1:
        return
    with torch.no_grad():
        trained = copy.deepcopy(network).to("meta").train()  # only shapes are computed
        try:
            trained(torch.zeros(smallest, 1, size, size, device="meta"))
        except ValueError as error:
            raise UserError(
                f"trainer.batch_size must leave no batch of one image if batch-norm trains on maps of one pixel, "
                f"got {cfg.trainer.batch_size}; set trainer.batch_size={max(3, cfg.trainer.batch_size + 1)} or more, "
                "or a smaller model.finetune_depth"
            ) from error


def trainer_settings(cfg: TrainConfig) -> TrainerSettings:
    """The trainer's settings for this machine; `precision=auto` is bfloat16 on a GPU that supports it.

    Raises:
        UserError: `trainer=gpu` without a GPU, or an option that this machine or several devices do not support.
    """
    trainer = cfg.trainer
    gpu = torch.cuda.is_available() and trainer.accelerator in {"auto", "gpu", "cuda"}
    if trainer.accelerator in {"gpu", "cuda"} and not gpu:
        raise UserError("trainer=gpu needs a GPU and torch sees none; use trainer=cpu, or install a torch build for it")
    if trainer.on_oom == "halve" and (trainer.devices != 1 or trainer.num_nodes != 1):
        raise UserError(
            f"trainer.on_oom=halve needs one device, got trainer.devices={trainer.devices} on {trainer.num_nodes} "
            "nodes; set trainer.on_oom=stop and lower trainer.batch_size"
        )
    most = max(8, os.cpu_count() or 1)
    if not gpu and trainer.devices != "auto" and trainer.devices > most:
        raise UserError(
            f"trainer.devices must be at most {most} on a CPU, where each device is a process, got "
            f"{trainer.devices}; set trainer.devices={os.cpu_count() or 1} or fewer"
        )
    precision: str = trainer.precision
    if precision == "16-mixed" and not gpu:
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, got a CPU; set trainer.precision=bf16-mixed or 32-true"
        )
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    return TrainerSettings(
        accelerator="gpu" if gpu else trainer.accelerator if trainer.accelerator != "auto" else "cpu",
        devices=trainer.devices,
        strategy=trainer.strategy,
        num_nodes=trainer.num_nodes,
        precision=precision,
        max_epochs=trainer.max_epochs,
        gradient_clip=trainer.gradient_clip,
    )


def check_trainer(settings: TrainerSettings) -> Ranks:
    """Build a trainer only to check its settings before data is read; raises UserError as `build_trainer`.

    Settings for one device that were checked before are not checked again: a worker trains many trials.
    """
    if settings in _checked:
        return Ranks(1, is_zero=True)
    trainer = build_trainer(settings, enable_checkpointing=False, enable_progress_bar=False)
    if trainer.world_size == 1:
        _checked.add(settings)
    return Ranks(trainer.world_size, trainer.is_global_zero)


def build_trainer(settings: TrainerSettings, *, plugins: Sequence[Any] = (), **options: Any) -> pl.Trainer:
    """Lightning's trainer, without a logger and a model summary.

    Args:
        settings: settings of the trainer.
        plugins: Lightning plugins.
        **options: further arguments of Lightning's trainer.

    Raises:
        UserError: Lightning does not know a precision, accelerator or strategy, or cannot combine them.
    """
    # With several tasks Slurm starts one process per device; a single task, such as a sweep's worker, starts its own.
    single_task = os.environ.get("SLURM_NTASKS") == "1" and settings.num_nodes == 1
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            num_nodes=settings.num_nodes,
            precision=settings.precision,  # type: ignore[arg-type]
            max_epochs=settings.max_epochs,
            gradient_clip_val=settings.gradient_clip,
            plugins=[*plugins, *([LightningEnvironment()] if single_task else [])],
            **{"logger": False, "enable_model_summary": False, **options},
        )
    except (ValueError, ImportError, RuntimeError, MisconfigurationException) as error:
        if isinstance(error, RuntimeError) and "SLURM" not in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        slurm = ", or start a single Slurm task (hydra.launcher.tasks_per_node=1)" if "SLURM" in reason else ""
        raise UserError(
            f"trainer: {reason}; correct trainer.precision, trainer.accelerator, trainer.devices or trainer.strategy"
            f"{slurm}"
        ) from error
