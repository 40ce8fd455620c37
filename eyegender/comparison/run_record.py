"""A finished run as the comparison sees it, and how it is loaded from the tracking store."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.models.libraries.timm_backbone import TimmBackbone
from eyegender.models.model_costs import costs
from eyegender.models.saved_network import SPEC_FILE, WEIGHTS_FILE, parse_spec
from eyegender.tracking.model_logging import NETWORK
from eyegender.tracking.names import read_metrics, stored_name
from eyegender.tracking.run_artifacts import (
    downloaded,
    logged_classes,
    logged_model,
    lost_predictions,
    network_files,
    read_config,
    read_predictions,
    read_validation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.entities import LoggedModel, Run

    from eyegender.comparison.compared import Part
    from eyegender.comparison.selection import SelectedRun
    from eyegender.tracking.predictions import Predictions
    from eyegender.tracking.tracking_store import TrackingStore

log = logging.getLogger(__name__)

# Parameters in which two seeds of one config may differ, and parameters that change no result. The folder of the data
# is one of them, because the fingerprint of the data identifies the data itself.
_NOT_CONFIG = (
    "seed", "data.split.seed", "data.root", "data.reader.root", "ckpt_path", "output", "overwrite", "run_test",
    "trainer.progress", "trainer.threads",
)  # fmt: skip
_TIMM = f"{TimmBackbone.__module__}.{TimmBackbone.__name__}"
_NOT_CONFIG_SECTIONS = ("tracking.", "count.", "hydra.")

# The curves that the comparison draws; each one costs a request.
_CURVES = ("train/accuracy", "val/accuracy")


def backbone_name(params: Mapping[str, str]) -> str:
    """The name of a run's backbone in tables, from its parameters; torchvision and timm share many names."""
    name = params.get("model.name", "?")
    return f"{name} (timm)" if params.get("model.backbone._target_") == _TIMM else name


@dataclass(frozen=True)
class ModelCosts:
    """What it costs to use a model; None if unknown.

    Args:
        parameters: number of parameters.
        multiply_adds: number of multiply-adds per image.
        size_bytes: size of the saved weights in bytes.
        latency_ms: milliseconds per image on the machine that wrote the page.
        training_seconds: duration of the training.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    training_seconds: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run: its config, its metrics and its predictions for the test images.

    Args:
        run_id: id in the tracking store.
        name: name of the run, not necessarily unique.
        params: composed config, flattened to dotted keys.
        metrics: last values, by the names of `metrics.json` (`test/accuracy`); `best/val/NAME` for the best epoch.
        history: one mapping of metrics per epoch, in order.
        predictions: predictions for the test or the validation images; None if the run stored none or they are lost.
        tags: tags as logged.
        costs: costs of the model.
        trials: number of runs from which this one was selected; None if it was requested explicitly.
        selected_by: metric by which it was selected.
        lost: what happened to the predictions of a run that was tested and has none; otherwise None.
        classes: its class names in label order, as it logged them; empty if it did not.
    """

    run_id: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    predictions: Predictions | None
    tags: Mapping[str, str] = field(default_factory=dict)
    costs: ModelCosts = field(default_factory=ModelCosts)
    trials: int | None = None
    selected_by: str = "val/accuracy"
    lost: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def backbone(self) -> str:
        return backbone_name(self.params)

    @property
    def seed(self) -> str:
        return self.params.get("seed", "?")

    @property
    def synthetic(self) -> bool:
        return self.tags.get("synthetic") == "true" or self.tags.get("data.source") == "synthetic"

    @property
    def split_kind(self) -> str:
        return self.tags.get("split.kind", self.params.get("data.split.by", "?"))

    @cached_property
    def config_key(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that differ only in their seed."""
        params = {
            k: v for k, v in self.params.items() if k not in _NOT_CONFIG and not k.startswith(_NOT_CONFIG_SECTIONS)
        }
        return (*sorted(params.items()), ("data.fingerprint", self.tags.get("data.fingerprint", "")))


def load_record(
    store: TrackingStore, selected: SelectedRun, by: str, *, part: Part = "test", latency: bool = True
) -> RunRecord:
    """Load one run with its predictions, curves and costs; whatever the run did not store is None or empty.

    Args:
        store: the store that holds the run.
        selected: the run, and from how many it was selected.
        by: validation metric by which it was selected.
        part: whether to load the predictions for the test or for the validation images.
        latency: whether to measure the latency on this machine.
    """
    run = selected.run
    without = RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        params=dict(run.data.params),
        metrics=read_metrics(run.data.metrics),
        history=_load_history(store, run),
        predictions=None,
        tags=dict(run.data.tags),
        trials=selected.trials,
        selected_by=by,
        classes=logged_classes(run),
    )
    record = with_predictions(store, selected, without, part)
    classes = None if record.predictions is None else record.predictions.classes
    return replace(record, costs=_load_costs(store, run, classes, latency=latency))


def with_predictions(store: TrackingStore, selected: SelectedRun, record: RunRecord, part: Part) -> RunRecord:
    """The same record with the predictions for the test or the validation images, as far as they can be read."""
    run = selected.run
    if part == "val":
        return replace(record, predictions=read_validation(store, run), lost=None)
    predictions = read_predictions(store, run)
    return replace(record, predictions=predictions, lost=lost_predictions(run) if predictions is None else None)


def _load_history(store: TrackingStore, run: Run) -> list[dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    for name in _CURVES:
        stored = stored_name(name) if stored_name(name) in run.data.metrics else name
        for point in store.client.get_metric_history(run.info.run_id, stored):
            epochs.setdefault(int(point.step), {})[name] = float(point.value)
    return [epochs[step] for step in sorted(epochs)]


def _load_costs(store: TrackingStore, run: Run, classes: tuple[str, ...] | None, *, latency: bool) -> ModelCosts:
    """The costs, of which those of an architecture are taken from another run that has the same."""
    seconds = run.data.metrics.get("fit_seconds")
    # A run without outputs has logged no model; a search for it would cost more than all else.
    has_model = run.outputs is None or bool(run.outputs.model_outputs)
    model = logged_model(store, run.info.run_id) if has_model else None
    size = None if model is None else network_files(store, model).get(WEIGHTS_FILE)
    architecture = (_architecture(run), len(classes or ()), latency)
    measured = _COSTS.get(architecture) or _measure(store, run, model, classes, latency=latency)
    if measured is None:
        return ModelCosts(size_bytes=size, training_seconds=seconds)
    if {"model.backbone._target_", "input_size"} <= run.data.params.keys():  # not of an earlier version
        _COSTS[architecture] = measured
    parameters, multiply_adds, milliseconds = measured
    return ModelCosts(parameters, multiply_adds, size, milliseconds, seconds)


_COSTS: dict[object, tuple[int, int, float | None]] = {}


def _architecture(run: Run) -> tuple[tuple[str, str], ...]:
    """The parameters on which a network depends, apart from its weights."""
    keys = ("model.name", "model.backbone.", "model.head", "model.flip_test", "data.size", "data.color", "input_size")
    # The number of outputs follows from the classes, which runs of earlier versions only count.
    counted = (name for name in run.data.params if name.startswith("count.train"))
    own = {name: value for name, value in run.data.params.items() if name.startswith(keys)}
    return (*sorted(own.items()), *((name, "") for name in sorted(counted)))


def _measure(
    store: TrackingStore, run: Run, model: LoggedModel | None, classes: tuple[str, ...] | None, *, latency: bool
) -> tuple[int, int, float | None] | None:
    """Parameters, multiply-adds and milliseconds per image; None if the network cannot be built."""
    try:
        if model is None:  # a trial, whose config says what its network is
            config = read_config(store, run)
            return None if config is None else costs(config.spec(classes or None), latency=latency)
        with downloaded(store, model, f"{NETWORK}/{SPEC_FILE}") as path:
            spec = parse_spec(path.read_text(encoding="utf-8"))
        return costs(spec, latency=latency)
    except (UserError, ValueError, TypeError, KeyError) as error:
        if model is not None:
            log.warning("run %s: its model cannot be measured (%s)", run.info.run_id, error)
        return None
