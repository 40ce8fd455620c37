"""From a checked config to the objects of a run."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.data.readers import build_reader, split_options
from eyegender.models.augment import Augment
from eyegender.models.backbone import Backbone, resolve_depth
from eyegender.models.classifier import Classifier
from eyegender.models.heads import build_head
from eyegender.models.network import Network
from eyegender.models.optimization import Optimization
from eyegender.models.saved_network import ModelSpec
from eyegender.models.weights import Weights, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.core.schema import ModelSection, TrainConfig
    from eyegender.data.data_module import EyesDataModule


@dataclass(frozen=True)
class BuiltNetwork:
    """What the config alone decides: it is built, and every mistake in it told, before a picture is read."""

    network: Network
    weights: Weights
    stages: int


@dataclass(frozen=True)
class BuiltModel:
    """A classifier with what must be told about it."""

    classifier: Classifier
    card: ModelSpec
    weights: Weights
    stages: int


def backbone_class(model: ModelSection) -> type[Backbone]:
    """The class that the config names.

    Raises:
        UserError: not one of ours or of an allowed package, or it was given arguments.
    """
    if model.backbone.arguments:
        raise UserError(f"model.backbone takes no arguments, got {sorted(model.backbone.arguments)}; remove them")
    return load_class(model.backbone.target, Backbone)


def build_data(cfg: TrainConfig) -> EyesDataModule:
    """The data module, with nothing read yet. The size is the backbone's own unless the config says another."""
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
    """The network with its first weights.

    Args:
        cfg: of the run.
        fresh: load the first weights; a run that goes on from a checkpoint has no use for them.

    Raises:
        UserError: no such backbone, head or depth, weights that are missing or do not fit.
    """
    model = cfg.model
    cls = backbone_class(model)
    cls.check_size(cfg.data.size)
    backbone = cls()
    depth = resolve_depth(model.finetune_depth, len(backbone.stages), cls.name)
    head = build_head(model.head, backbone.channels, model.dropout)
    weights = load_weights(backbone, model.weights) if fresh else Weights("checkpoint", str(cfg.ckpt_path))
    return BuiltNetwork(Network(backbone, head, depth), weights, len(backbone.stages))


def build_optimization(cfg: TrainConfig) -> Optimization:
    """The optimizer and the scheduler that the config names.

    Raises:
        UserError: a class that is not built, or arguments that it does not take.
    """
    optimizer, scheduler = cfg.optimizer, cfg.scheduler
    found = Optimization(
        load_class(optimizer.target, Optimizer, "torch.optim"),
        optimizer.arguments,
        None if scheduler.target is None else load_class(scheduler.target, LRScheduler, "torch.optim"),
        scheduler.arguments,
        scheduler.warmup,
    )
    found.check()
    return found


def build_model(
    cfg: TrainConfig,
    *,
    classes: tuple[str, str],
    balance: float,
    fresh: bool = True,
    built: BuiltNetwork | None = None,
) -> BuiltModel:
    """The classifier.

    Args:
        cfg: of the run.
        classes: names of labels 0 and 1.
        balance: female per male training pictures, for `pos_weight=balanced`.
        fresh: as of `build_network`.
        built: the network, where it is built already.
    """
    model, built = cfg.model, built or build_network(cfg, fresh=fresh)
    network = built.network
    augment = cfg.data.augment
    classifier = Classifier(
        network,
        lr=model.lr,
        head_lr=model.head_lr,
        optimization=build_optimization(cfg),
        label_smoothing=model.label_smoothing,
        mixup=model.mixup,
        pos_weight=balance if model.pos_weight == "balanced" else float(model.pos_weight),
        augment=Augment(**augment.model_dump(exclude={"enabled"})) if augment.enabled else None,
        flip_test=model.flip_test,
        seed=cfg.seed,
        micro_batches=cfg.trainer.on_oom == "halve",
        max_steps=cfg.trainer.max_steps,
    )
    card = ModelSpec(
        backbone=model.backbone.target,
        head=model.head,
        depth=len(network.suffix),
        size=backbone_class(model).check_size(cfg.data.size),
        color=cfg.data.color,
        classes=classes,
        flip_average=model.flip_test,
    )
    return BuiltModel(classifier, card, built.weights, built.stages)


def check_smallest_batch(network: Network, cfg: TrainConfig, size: int, smallest: int) -> None:
    """Whether batch-norm can train on a batch of `smallest` pictures.

    Raises:
        UserError: a stage that trains would have one value per channel, which has no variance.
    """
    if smallest > 1:
        return
    with torch.no_grad():
        trained = copy.deepcopy(network).to("meta").train()  # shapes alone: nothing is computed
        try:
            trained(torch.zeros(smallest, 1, size, size, device="meta"))
        except ValueError as error:
            raise UserError(
                f"trainer.batch_size must leave no batch of one picture where batch-norm trains on maps of one pixel, "
                f"got {cfg.trainer.batch_size}; set trainer.batch_size={max(3, cfg.trainer.batch_size + 1)} or more, "
                "or a smaller model.finetune_depth"
            ) from error


def trainer_arguments(cfg: TrainConfig) -> dict[str, Any]:
    """Lightning's arguments for the machine that the config asks for.

    Raises:
        UserError: a GPU is asked for and there is none, or something that this machine or several devices cannot do.
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
            f"trainer.devices must be at most {most} on a CPU, where each is a process of its own, got "
            f"{trainer.devices}; set trainer.devices={os.cpu_count() or 1} or fewer"
        )
    precision: str = trainer.precision
    if precision == "16-mixed" and not gpu:
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, got a CPU; set trainer.precision=bf16-mixed or 32-true"
        )
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    return {
        "accelerator": "gpu" if gpu else trainer.accelerator if trainer.accelerator != "auto" else "cpu",
        "devices": trainer.devices,
        "strategy": trainer.strategy,
        "num_nodes": trainer.num_nodes,
        "precision": precision,
        "max_epochs": trainer.max_epochs,
        "gradient_clip_val": trainer.gradient_clip,
    }


def check_trainer(arguments: dict[str, Any]) -> None:
    """Before any data are read; raises UserError as `build_trainer`."""
    build_trainer(arguments, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def build_trainer(arguments: dict[str, Any], *, plugins: Sequence[Any] = (), **more: Any) -> pl.Trainer:
    """Lightning's trainer.

    Raises:
        UserError: Lightning knows no such precision, accelerator or strategy, or cannot combine them.
    """
    # Of several tasks Slurm starts one per device; a single one, such as a sweep's worker, starts its processes itself.
    alone = os.environ.get("SLURM_NTASKS") == "1" and arguments["num_nodes"] == 1
    try:
        return pl.Trainer(**arguments, plugins=[*plugins, *([LightningEnvironment()] if alone else [])], **more)
    except (ValueError, ImportError, RuntimeError, MisconfigurationException) as error:
        if isinstance(error, RuntimeError) and "SLURM" not in str(error):
            raise
        told = " ".join(str(error).split())[:200]
        slurm = ", or start one Slurm task alone (hydra.launcher.tasks_per_node=1)" if "SLURM" in told else ""
        raise UserError(
            f"trainer: {told}; correct trainer.precision, trainer.accelerator, trainer.devices or trainer.strategy"
            f"{slurm}"
        ) from error
