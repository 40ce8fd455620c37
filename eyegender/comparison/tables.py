"""The tables of a comparison as text, for the HTML page and the Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.paper import PAPER
from eyegender.comparison.significance import format_p
from eyegender.models.metrics import METRICS, class_metrics
from eyegender.plots.style import percent
from eyegender.tracking.run_names import short_value

if TYPE_CHECKING:
    from eyegender.comparison.compared import ComparedRun, RunGroup
    from eyegender.comparison.comparison import Comparison
    from eyegender.models.intervals import Interval

TITLES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
}
UNKNOWN = "-"
# In the table of classes.
MOST_RUNS, MOST_CLASSES = 8, 50
CLASSES_NOTE = (
    f"F1 of each class, with its precision and recall in small print; at most {MOST_CLASSES} classes, those with the "
    f"lowest F1 first, and {MOST_RUNS} runs."
)


@dataclass(frozen=True)
class Cell:
    """A value, a note in small print below it, and whether the value is bold."""

    text: str
    small: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `left` columns are text and left-aligned, the others are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1


def metrics_table(comparison: Comparison) -> Table:
    """The metrics of every run with their intervals; on the paper's data, then those of the paper, marked as such."""
    rows = [
        (
            Cell(f"#{run.number}"),
            Cell(run.short_name, _notes(run), strong=run.leads),
            Cell(run.group),
            *(_measured(name, run.metrics[name], strong=run.leads and name == "accuracy") for name in METRICS),
        )
        for run in comparison.runs
    ]
    for result in PAPER if comparison.paper else ():
        others = "; ".join(f"{percent(value, 2)} in its {section}" for section, value in result.elsewhere)
        accuracy = Cell(percent(result.accuracy, 2), f"{_range(result.interval, 100)}, our estimate")
        unknown = [Cell(UNKNOWN)] * (len(METRICS) - 1)
        rows.append((Cell("paper"), Cell(result.model, others), Cell(UNKNOWN), accuracy, *unknown))
    return Table(("", "run", "group", *(TITLES[name] for name in METRICS)), tuple(rows), left=3)


def configs_table(comparison: Comparison) -> Table:
    """The config of each run, and the costs of its model."""
    columns = (
        "", "backbone", "weights", "data", "split", "depth", "learning rate", "size", "epochs", "parameters",
        "multiply-adds", "model size", "latency", "training",
    )  # fmt: skip
    return Table(columns, tuple(_config(run) for run in comparison.runs), left=5)


def pairs_table(comparison: Comparison) -> Table:
    """McNemar's test for each pair, the smallest p-value first."""
    rows = []
    for pair in comparison.pairs:
        group = next(group for group in comparison.groups if group.letter == pair.first.group)
        level = f"by {group.unit}" if group.has_units else "by image"
        rows.append(
            (
                Cell(f"#{pair.first.number} and #{pair.second.number}"),
                Cell(pair.sentence, strong=pair.significant),
                Cell(f"{100 * pair.difference.value:+.1f}", _range(pair.difference, 100, signed=True)),
                Cell(f"{pair.test.only_first} : {pair.test.only_second}"),
                Cell(format_p(pair.test.p_value).removeprefix("= "), level),
                Cell(format_p(pair.p_corrected).removeprefix("= "), strong=pair.significant),
            )
        )
    columns = ("runs", "result", "difference in points", "only first : only second correct", "p", "corrected p")
    return Table(columns, tuple(rows), left=2)


def classes_table(comparison: Comparison, group: RunGroup) -> Table:
    """F1 of each class by each run of a group, with precision and recall; the classes with the lowest F1 first."""
    runs = [comparison.runs[number - 1] for number in group.numbers[:MOST_RUNS]]
    found = [class_metrics(run.predictions.labels, run.predictions.probabilities) for run in runs]
    counts = np.bincount(runs[0].predictions.labels, minlength=len(runs[0].classes))
    order = np.argsort(np.mean([each["f1"] for each in found], axis=0), kind="stable").tolist()
    rows = [
        (
            Cell(runs[0].classes[label]),
            Cell(f"{counts[label]:,}"),
            *(
                Cell(
                    percent(each["f1"][label]),
                    f"{percent(each['precision'][label])}, {percent(each['recall'][label])}",
                )
                for each in found
            ),
        )
        for label in order[:MOST_CLASSES]
    ]
    return Table(("class", "images", *(f"#{run.number}" for run in runs)), tuple(rows))


def seeds_table(comparison: Comparison) -> Table:
    """Mean and spread over the seeds of each config."""
    backbones = {run.number: run.record.backbone for run in comparison.runs}
    rows = []
    for group in comparison.seed_groups:
        split = "same images" if group.one_test_set else "different splits"
        rows.append(
            (
                Cell(", ".join(f"#{number}" for number in group.numbers)),
                Cell(backbones[group.numbers[0]], f"seeds {', '.join(group.seeds)}; {split}"),
                *(Cell(_value(name, group.mean[name]), "± " + _value(name, group.spread[name])) for name in METRICS),
            )
        )
    return Table(("runs", "config", *(TITLES[name] for name in METRICS)), tuple(rows), left=2)


def _notes(run: ComparedRun) -> str:
    notes = [run.record.run_id[:8]]
    if run.record.synthetic:
        notes.append("synthetic data")
    if run.record.trials is not None and run.record.trials > 1:
        notes.append(f"best of {run.record.trials:,} trials")
    if run.leads:
        notes.append(f"most accurate of group {run.group}")
    return ", ".join(notes)


def _config(run: ComparedRun) -> tuple[Cell, ...]:
    record, costs = run.record, run.record.costs
    tags, params = record.tags, record.params
    depth = params.get("model.finetune_depth", UNKNOWN)
    stages = params.get("finetune_stages")
    fingerprint = tags.get("data.fingerprint", "")
    return (
        Cell(f"#{run.number}"),
        Cell(record.backbone),
        Cell(tags.get("weights.kind", params.get("model.weights", UNKNOWN))),
        Cell(tags.get("data.source", UNKNOWN), fingerprint[:8]),
        Cell(run.split_title, tags.get("split.fingerprint", "")[:8]),
        Cell(depth, f"{stages} stages" if stages and depth != stages else ""),
        Cell(short_value(params.get("model.lr", UNKNOWN))),
        Cell(params.get("input_size", params.get("data.size", UNKNOWN))),
        Cell(str(len(record.history)) if record.history else UNKNOWN),
        Cell(_short_number(costs.parameters)),
        Cell(_short_number(costs.multiply_adds)),
        Cell(UNKNOWN if costs.size_bytes is None else f"{costs.size_bytes / 1e6:.1f} MB"),
        Cell(UNKNOWN if costs.latency_ms is None else f"{costs.latency_ms:.{0 if costs.latency_ms >= 100 else 1}f} ms"),
        Cell(_duration(costs.training_seconds)),
    )


def _measured(name: str, interval: Interval, *, strong: bool) -> Cell:
    if math.isnan(interval.value):
        return Cell(UNKNOWN, "one class only")
    return Cell(_value(name, interval.value), _range(interval, 1 if name == "auroc" else 100), strong)


def _value(name: str, value: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.3f}" if name == "auroc" else percent(value)


def _range(interval: Interval, factor: int, *, signed: bool = False) -> str:
    digits = 3 if factor == 1 else 1
    sign = "+" if signed else ""
    return f"{factor * interval.low:{sign}.{digits}f} to {factor * interval.high:{sign}.{digits}f}"


def _short_number(count: int | None) -> str:
    """For example 3.5 M, 300 M or 5.7 G."""
    if count is None:
        return UNKNOWN
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
