"""Output files of a finished run: metrics.json, test predictions, figures and the saved network."""

from __future__ import annotations

import json
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.atomic_write import atomic_write
from eyegender.models.heads import probabilities_of
from eyegender.models.intervals import bootstrap_interval, standard_error
from eyegender.models.metrics import METRICS
from eyegender.tracking.names import count_tags, final_values
from eyegender.tracking.notes import MODEL, accuracy_text, artifact_links, link
from eyegender.tracking.predictions import PREDICTIONS_FILE, VAL_PREDICTIONS_FILE, Predictions
from eyegender.training import environment
from eyegender.training.tracking import what_it_is

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.network import Network
    from eyegender.models.saved_network import ModelSpec
    from eyegender.tracking.tracker import Tracker
    from eyegender.training.build import BuiltModel
    from eyegender.training.callbacks import History

METRICS_FILE = "metrics.json"
MOST_WRONG = 24


def write_outputs(
    tracker: Tracker,
    output_dir: Path,
    cfg: TrainConfig,
    data: EyesDataModule,
    built: BuiltModel,
    *,
    history: History,
    metrics: dict[str, float],
    facts: dict[str, float],
    test_outputs: Mapping[str, Tensor] | None,
    val_outputs: Mapping[str, Tensor] | None = None,
    with_model: bool = True,
) -> None:
    """Write all output files and send them to the tracking store.

    Args:
        tracker: tracker of the run.
        output_dir: output folder.
        cfg: config of the run.
        data: the data module.
        built: the classifier with the weights of the best epoch, its specification and initial weights.
        history: metrics of each epoch.
        metrics: metrics of the best epoch and, if it was tested, of the test.
        facts: further numbers, such as `best_epoch` and `fit_seconds`.
        test_outputs: outputs of the classifier in the test, see `Classifier.predictions`; None without a test.
        val_outputs: as `test_outputs`, from the validation of the best epoch; None for an old checkpoint.
        with_model: draw the figures and log the model, too. `run.evaluate_best` does that later for a trial.
    """
    tracker.log_values(final_values(metrics) | facts)
    tracker.set_tags(count_tags(metrics))
    spec = built.spec
    write_json(
        output_dir / METRICS_FILE,
        {
            "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
            **facts,
            "epochs": len(history),
            "model": cfg.model.name,
            "finetune_depth": spec.depth,
            "size": spec.size,
            "weights": {"kind": built.weights.kind, "sha256": built.weights.sha256},
            "seed": cfg.seed,
            "data": data.facts(),
            "commit": environment.commit(),
            "versions": environment.versions(),
            "hardware": environment.hardware(),
            "run_key": tracker.key,
        },
    )
    tracker.log_artifact(METRICS_FILE)
    results = []
    if val_outputs is not None:
        validated = collect_predictions(data, val_outputs)
        write_json(output_dir / VAL_PREDICTIONS_FILE, validated.to_table())
        tracker.log_artifact(VAL_PREDICTIONS_FILE)  # trials, which are not tested, are compared by it
        epoch = f"epoch {facts['best_epoch']:.0f} of {len(history)}"
        results = [f"Validation accuracy {accuracy_text(validated, data.samples.classes)}, {epoch}."]
    what = what_it_is(cfg, data, built)
    if not with_model:
        tracker.log_note("\n".join(results) + f"\n\n{what}")
        return
    from eyegender.plots import figures

    note = "synthetic eyes" if data.source == "synthetic" else None
    plots = {"learning_curves": figures.learning_curves(history, note=note)}
    if test_outputs is not None:
        predictions = collect_predictions(data, test_outputs)
        results = [f"Test accuracy {accuracy_text(predictions, data.samples.classes)}.", *results]
        write_json(output_dir / PREDICTIONS_FILE, predictions.to_table())
        tracker.log_artifact(PREDICTIONS_FILE)
        # MLflow lists tables by this tag.
        tracker.set_tags({"mlflow.loggedArtifacts": f'[{{"path": "{PREDICTIONS_FILE}", "type": "table"}}]'})
        index = test_outputs["index"].numpy()
        plots |= prediction_figures(
            predictions, lambda rows: data.pixels(index[rows]), classes=data.samples.classes, note=note
        )
    drawn = [str(path.relative_to(output_dir)) for path in figures.save_figures(plots, output_dir / "figures")]
    for path in drawn:
        tracker.log_artifact(path, "figures")
    example = data.pixels(data.split.val[:1]).transpose(0, 2, 3, 1)
    save_for_logging(output_dir / "model", built.classifier.network, spec, example)
    tracker.log_model(
        "model",
        metadata=_model_metadata(spec, data.source),
        params={"model": cfg.model.name, "finetune_depth": str(spec.depth)},
    )
    # After the model, so that its address is known.
    links = f"Figures: {artifact_links(drawn)}\nModel: {link(tracker.name, MODEL)}"
    results.append(links)
    tracker.log_note("\n".join(results) + f"\n\n{what}")  # MLflow shows the first few lines


def write_json(path: Path, content: Any) -> None:
    """Write JSON; raises ValueError for values that JSON does not have, such as NaN."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False, default=str)


def objective_error(cfg: TrainConfig, data: EyesDataModule, outputs: Mapping[str, Tensor]) -> float | None:
    """Standard error of the value that the config optimizes, over the persons of the validation set; None if unknown.

    Args:
        cfg: config of the run, with one objective.
        data: the images.
        outputs: from the validation of the best epoch, see `Classifier.predictions`.
    """
    name = cfg.objectives[0] if cfg.objectives else cfg.monitor
    predictions, metric = collect_predictions(data, outputs), name.removeprefix("val/")
    if name in ("val/accuracy", "val/loss"):
        values = predictions.correct if metric == "accuracy" else outputs["losses"].double().numpy()
        error = standard_error(values, predictions.persons)
    elif metric in METRICS:
        found = bootstrap_interval(
            metric, predictions.labels, predictions.probabilities, predictions.persons, n_resamples=500
        )
        error = (found.high - found.low) / (2 * NormalDist().inv_cdf(0.975))
    else:
        return None  # a count, or the cost of a network
    return error if math.isfinite(error) else None


def collect_predictions(data: EyesDataModule, outputs: Mapping[str, Tensor]) -> Predictions:
    """The predictions for the images of a split, from their logits, labels and index."""
    index = outputs["index"].numpy()
    samples = data.samples.take(index)
    return Predictions(
        names=tuple(samples.names),
        keys=tuple(samples.digests),
        labels=outputs["labels"].numpy().astype(np.int64),
        probabilities=probabilities_of(outputs["logits"].double()).numpy(),
        persons=None if data.persons is None else tuple(str(data.persons[i]) for i in index),
        attributes=samples.attributes,
        classes=samples.classes if len(samples.classes) > 2 else (),
    )


def prediction_figures(
    predictions: Predictions, pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]], **options: Any
) -> dict[str, Figure]:
    """The figures of predictions by name; no ROC curve if all images are of one class.

    Args:
        predictions: the predictions.
        pixels: reads the images of some predictions, so that only those in a figure are read.
        options: `classes` and `note` of all figures.
    """
    from eyegender.plots import figures

    labels, probabilities = predictions.labels, predictions.probabilities
    plots = {
        "confusion_matrix": figures.confusion_matrix(predictions.confusion_matrix, **options),
        "reliability": figures.reliability_diagram(labels, probabilities, persons=predictions.persons, **options),
        "most_wrong": figures.most_wrong_sheet(
            pixels, labels, probabilities, predictions.names, k=MOST_WRONG, **options
        ),
    }
    if len(np.unique(labels)) > 1:
        plots["roc"] = figures.roc_curve(labels, probabilities, **options)
    return plots


def _model_metadata(spec: ModelSpec, source: str) -> dict[str, Any]:
    return {
        "input": "images, any size and number: integers 0..255, floats 0..1 or 0..255, or files",
        "output": spec.output,
        "classes": list(spec.classes),
        "size": spec.size,
        "color": spec.color,
        "data": source,
    }


def save_for_logging(folder: Path, network: Network, spec: ModelSpec, example: np.ndarray[Any, Any]) -> None:
    """Save the network and its input example where `tracking.model_logging` expects them."""
    from eyegender.models.saved_network import save_network

    (folder / "network").mkdir(parents=True, exist_ok=True)
    save_network(network, spec, folder / "network")
    np.save(folder / "example.npy", example)
