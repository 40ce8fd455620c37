"""The first lines of a run: what is trained on which images, from which weights, and where it is logged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import one_line
from eyegender.core.eye_study import split_title
from eyegender.core.secrets import redact

if TYPE_CHECKING:
    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.weights import Weights
    from eyegender.tracking.location import Location
    from eyegender.training.build import BuiltModel
    from eyegender.training.resume import ResumePoint

# Classes whose names are shown; of more, only their number.
_NAMED = 5
_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def first_lines(
    cfg: TrainConfig,
    built: BuiltModel,
    data: EyesDataModule,
    output_dir: Path,
    *,
    location: Location,
    resume: ResumePoint | None,
) -> list[str]:
    """What a run prints before it starts.

    Args:
        cfg: config of the run.
        built: the classifier with its specification and initial weights.
        data: the data module, after its `setup`.
        output_dir: output folder of the run.
        location: the tracking store.
        resume: where the run resumes, or None.
    """
    stages, depth = len(built.classifier.network.stages), built.spec.depth
    trained = (
        "the head alone" if depth == 0 else "all stages" if depth == stages else f"the last {depth} of {stages} stages"
    )
    epochs = f"{cfg.trainer.max_epochs} epochs" if cfg.trainer.max_epochs != 1 else "1 epoch"
    if resume is not None:
        epochs += f", of which {resume.progress.epochs} are done"
    counts = {split: sum(by_class.values()) for split, by_class in data.counts().items()}
    sizes = ", ".join(f"{counts[split]:,} {name}" for split, name in _SPLITS.items())
    classes = data.samples.classes
    names = " and ".join(classes) if len(classes) == 2 else ", ".join(classes)
    if len(classes) > _NAMED:
        names = f"{len(classes)} classes"
    where = relative(location.database) if location.database is not None else redact(location.uri)
    made = {"synthetic": "synthetic eyes: they say nothing about real eyes"}.get(data.source, _named_source(cfg, data))
    split = split_title(cfg.data.split.by, classes)
    return [
        f"Train    {cfg.model.name} ({trained}) for {epochs}",
        f"Data     {one_line(made)}",
        f"Images   {sizes}, {data.size} x {data.size} pixels, split by {split}",
        f"Classes  {one_line(names)}",
        f"Weights  {_weights_text(built.weights)}",
        f"Log      experiment {one_line(cfg.tracking.experiment)} in {where}",
        f"Output   {relative(output_dir)}",
    ]


def relative(path: Path) -> str:
    """The path from the working folder, if it is inside."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _named_source(cfg: TrainConfig, data: EyesDataModule) -> str:
    root = cfg.data.reader.arguments.get("root")
    return f"{data.source} {redact(os.fspath(root))}" if root else data.source


def _weights_text(weights: Weights) -> str:
    if weights.kind == "random":
        return "random, NOT PRE-TRAINED: no ImageNet weights are at hand" if weights.fallback else "random"
    if weights.kind == "imagenet":
        return f"ImageNet, {weights.source.rpartition('/')[2]}"
    return f"{weights.kind}, {redact(weights.source)}"
