"""What an evaluation leaves: metrics.json, a table of predictions, figures, and a few lines on the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eyegender.core.errors import one_line
from eyegender.training.outputs import METRICS_FILE, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from eyegender.inference.evaluation import Evaluation
    from eyegender.inference.labeled_images import LabeledImages
    from eyegender.inference.load import LoadedModel

PREDICTIONS_FILE, FIGURES_FOLDER = "predictions.json", "figures"
WORST = 24


def write_evaluation(
    folder: Path, evaluation: Evaluation, model: LoadedModel, pictures: LabeledImages, part: str
) -> list[Path]:
    """Write everything into `folder`, made if it is missing; returns the figures."""
    from eyegender.plots import figures
    from eyegender.plots.style import SYNTHETIC_NOTE

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / METRICS_FILE, evaluation.as_json(model, pictures, part))
    table = evaluation.table
    write_json(folder / PREDICTIONS_FILE, table.to_table())
    note = SYNTHETIC_NOTE if pictures.samples.source == "synthetic" else None
    classes = pictures.samples.classes
    drawn = {
        "confusion_matrix": figures.confusion_matrix(table.confusion_matrix, classes, note=note),
        "reliability": figures.reliability_diagram(
            table.labels, table.probabilities, classes=classes, note=note, persons=table.persons
        ),
        "most_wrong": figures.most_wrong_sheet(
            pictures.pixels, table.labels, table.probabilities, table.names, k=WORST, classes=classes, note=note
        ),
    }
    if not math.isnan(evaluation.metrics["auroc"].value):
        drawn["roc"] = figures.roc_curve(table.labels, table.probabilities, classes=classes, note=note)
    return figures.save_figures(drawn, folder / FIGURES_FOLDER)


def show_evaluation(
    console: Console, evaluation: Evaluation, model: LoadedModel, pictures: LabeledImages, part: str
) -> None:
    """Print the metrics."""
    from rich.table import Table

    who = f" of {len(set(pictures.persons)):,} persons" if pictures.persons is not None else ""
    which = "all pictures" if part == "all" else f"the {part} part"
    title = f"{model.reference} on {pictures.samples.source}, {which}: {len(pictures):,}{who}"
    table = Table("metric", "value", "95% interval")
    for name, interval in evaluation.metrics.items():
        value = "-" if math.isnan(interval.value) else f"{interval.value:.4f}"
        table.add_row(name, value, f"{interval.low:.4f} to {interval.high:.4f}")
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    (tn, fp), (fn, tp) = evaluation.table.confusion_matrix.tolist()
    female, male = pictures.samples.classes
    lines = [
        f"{male} is positive: {tp} found, {fn} taken for {female}; {tn} {female} told rightly, {fp} taken for {male}",
        *(f"Warning: {line}" for line in evaluation.warnings),
        *(
            [f"{len(pictures.skipped)} unreadable pictures were left out; they are in metrics.json"]
            * bool(pictures.skipped)
        ),
    ]
    for line in lines:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
