"""From a checked config to the objects of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from eyegender.allowed import load_class
from eyegender.data.readers import build_reader
from eyegender.errors import UserError
from eyegender.models.augment import Augment
from eyegender.models.backbone import Backbone, resolve_depth
from eyegender.models.classifier import Classifier
from eyegender.models.heads import build_head
from eyegender.models.network import Network
from eyegender.models.weights import Weights, load_weights
from eyegender.serving.saved_network import Card

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from eyegender.data.data_module import EyesDataModule
    from eyegender.schema import ModelSection, TrainConfig


@dataclass(frozen=True)
class BuiltModel:
    """A classifier with what must be told about it."""

    classifier: Classifier
    card: Card
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


def check_model(cfg: TrainConfig) -> None:
    """What can be wrong with a network and needs neither data nor weights to be seen.

    Raises:
        UserError: no such backbone, head or depth, or its pictures are too small.
    """
    cls = backbone_class(cfg.model)
    cls.check_size(cfg.data.size)
    with torch.device("meta"):  # no memory, no random numbers
        build_head(cfg.model.head, cls.channels, cfg.model.dropout)
        try:
            stages = len(cls().stages)
        except RuntimeError:  # somebody's backbone that needs real numbers; what builds it later sees the rest
            return
    resolve_depth(cfg.model.finetune_depth, stages, cls.name)


def build_data(cfg: TrainConfig) -> EyesDataModule:
    """The data module, with nothing read yet. The size is the backbone's own unless the config says another."""
    from eyegender.data.data_module import EyesDataModule

    data, split = cfg.data, cfg.data.split
    return EyesDataModule(
        reader=build_reader(data),
        size=backbone_class(cfg.model).check_size(data.size),
        color=data.color,
        subset=data.subset.model_dump() if data.subset else None,
        split_by=split.by,
        split_file=split.file,
        test_fraction=split.test,
        val_fraction=split.val,
        split_seed=split.seed,
        batch_size=cfg.trainer.batch_size,
        eval_batch_size=cfg.trainer.eval_batch_size,
        seed=cfg.seed,
        on_bad=data.on_bad,
        on_conflict=data.on_conflict,
        cache_gb=cfg.features.max_gb,
    )


def build_model(cfg: TrainConfig, *, classes: tuple[str, str], balance: float, fresh: bool = True) -> BuiltModel:
    """The classifier.

    Args:
        cfg: of the run.
        classes: names of labels 0 and 1.
        balance: female per male training pictures, for `pos_weight=balanced`.
        fresh: load the first weights; a run that goes on from a checkpoint has no use for them.
    """
    model = cfg.model
    cls = backbone_class(model)
    size = cls.check_size(cfg.data.size)
    backbone = cls()
    depth = resolve_depth(model.finetune_depth, len(backbone.stages), cls.name)
    head = build_head(model.head, backbone.channels, model.dropout)
    weights = load_weights(backbone, model.weights) if fresh else Weights("checkpoint", str(cfg.ckpt_path))
    network = Network(backbone, head, depth)
    augment = cfg.data.augment
    classifier = Classifier(
        network,
        lr=model.lr,
        head_lr=model.head_lr,
        weight_decay=model.weight_decay,
        schedule=model.schedule,
        warmup=model.warmup,
        label_smoothing=model.label_smoothing,
        mixup=model.mixup,
        pos_weight=balance if model.pos_weight == "balanced" else float(model.pos_weight),
        augment=Augment(**augment.model_dump(exclude={"enabled"})) if augment.enabled else None,
        flip_test=model.flip_test,
        seed=cfg.seed,
        halve=cfg.trainer.on_oom == "halve",
    )
    card = Card(
        backbone=model.backbone.target,
        head=model.head,
        depth=depth,
        size=size,
        color=cfg.data.color,
        classes=classes,
        flip_average=model.flip_test,
    )
    return BuiltModel(classifier, card, weights, len(backbone.stages))


def trainer_arguments(cfg: TrainConfig) -> dict[str, Any]:
    """Lightning's arguments for the machine that the config asks for.

    Raises:
        UserError: a GPU is asked for and there is none, or something that several devices cannot do together.
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
    precision = trainer.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    return {
        "accelerator": "gpu" if gpu else trainer.accelerator if trainer.accelerator != "auto" else "cpu",
        "devices": trainer.devices,
        "strategy": trainer.strategy,
        "num_nodes": trainer.num_nodes,
        "precision": precision,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "gradient_clip_val": trainer.gradient_clip,
    }


def build_trainer(arguments: dict[str, Any], **more: Any) -> pl.Trainer:
    """Lightning's trainer.

    Raises:
        UserError: Lightning knows no such precision, accelerator or strategy, or cannot combine them.
    """
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        return pl.Trainer(**arguments, **more)
    except (ValueError, ImportError, MisconfigurationException) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(
            f"trainer: {told}; correct trainer.precision, trainer.accelerator, trainer.devices or trainer.strategy"
        ) from error
