"""A comparison as tables of text, from which both the page and the Markdown are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.comparison.significance import format_p
from eyegender.comparison.paper import PAPER
from eyegender.models.binary_metrics import METRICS
from eyegender.plots.style import percent

if TYPE_CHECKING:
    from eyegender.comparison.comparison import Comparison, Row
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


@dataclass(frozen=True)
class Cell:
    """A value, something smaller under it, and whether it stands out."""

    text: str
    small: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `left` columns are text and stand left, the others are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1


def metrics_table(comparison: Comparison) -> Table:
    """Every run's test metrics with intervals, then the paper's, marked as such."""
    lines = [
        (
            Cell(f"#{row.number}"),
            Cell(row.record.name, _second_line(row), strong=row.leads),
            Cell(row.group),
            *(_measured(name, row.metrics[name], strong=row.leads and name == "accuracy") for name in METRICS),
        )
        for row in comparison.rows
    ]
    for result in PAPER:
        others = "; ".join(f"{percent(value, 2)} in its {place}" for place, value in result.elsewhere)
        interval = f"{_range(result.interval, 100)}, ours"
        nothing = [Cell(UNKNOWN)] * (len(METRICS) - 1)
        cell = Cell(percent(result.accuracy, 2), interval)
        lines.append((Cell("paper"), Cell(result.model, others), Cell(UNKNOWN), cell, *nothing))
    return Table(("", "run", "group", *(TITLES[name] for name in METRICS)), tuple(lines), left=3)


def facts_table(comparison: Comparison) -> Table:
    """What each run was, and what it costs."""
    columns = (
        "", "backbone", "weights", "data", "split", "depth", "learning rate", "size", "epochs", "parameters",
        "multiply-adds", "model size", "latency", "training",
    )  # fmt: skip
    return Table(columns, tuple(_facts(row) for row in comparison.rows), left=5)


def pairs_table(comparison: Comparison) -> Table:
    """McNemar's test for each pair, the smallest p-value first."""
    lines = []
    for pair in comparison.pairs:
        counted = "by picture" if pair.test.persons is None else "by person"
        lines.append(
            (
                Cell(f"#{pair.first.number} and #{pair.second.number}"),
                Cell(pair.sentence, strong=pair.sure),
                Cell(f"{100 * pair.difference.value:+.1f}", _range(pair.difference, 100, signed=True)),
                Cell(f"{pair.test.only_first} : {pair.test.only_second}"),
                Cell(format_p(pair.test.p_value).removeprefix("= "), counted),
                Cell(format_p(pair.p_corrected).removeprefix("= "), strong=pair.sure),
            )
        )
    columns = ("runs", "what it says", "points apart", "only first : only second right", "p", "p corrected")
    return Table(columns, tuple(lines), left=2)


def pools_table(comparison: Comparison) -> Table:
    """Mean and spread over the seeds of one config."""
    names = {row.number: row.record.backbone for row in comparison.rows}
    lines = []
    for pool in comparison.pools:
        where = "same test pictures" if pool.one_test_set else "split drawn anew"
        lines.append(
            (
                Cell(", ".join(f"#{number}" for number in pool.numbers)),
                Cell(names[pool.numbers[0]], f"seeds {', '.join(pool.seeds)}; {where}"),
                *(Cell(_value(name, pool.mean[name]), "± " + _value(name, pool.spread[name])) for name in METRICS),
            )
        )
    return Table(("runs", "config", *(TITLES[name] for name in METRICS)), tuple(lines), left=2)


def _second_line(row: Row) -> str:
    notes = [row.record.run_id[:8]]
    if row.record.synthetic:
        notes.append("synthetic data")
    if row.record.trials is not None and row.record.trials > 1:
        notes.append(f"best of {row.record.trials:,} trials")
    if row.leads:
        notes.append(f"most accurate of group {row.group}")
    return ", ".join(notes)


def _facts(row: Row) -> tuple[Cell, ...]:
    record, facts = row.record, row.record.facts
    tags, params = record.tags, record.params
    depth = params.get("model.finetune_depth", UNKNOWN)
    stages = params.get("finetune_stages")
    fingerprint = tags.get("data.fingerprint", "")
    return (
        Cell(f"#{row.number}"),
        Cell(record.backbone),
        Cell(tags.get("weights.kind", params.get("model.weights", UNKNOWN))),
        Cell(tags.get("data.source", UNKNOWN), fingerprint[:8]),
        Cell(record.split_kind, tags.get("split.fingerprint", "")[:8]),
        Cell(depth, f"{stages} stages" if stages and depth != stages else ""),
        Cell(params.get("model.lr", UNKNOWN)),
        Cell(params.get("input_size", params.get("data.size", UNKNOWN))),
        Cell(str(len(record.history)) if record.history else UNKNOWN),
        Cell(_counted(facts.parameters)),
        Cell(_counted(facts.multiply_adds)),
        Cell(UNKNOWN if facts.size_bytes is None else f"{facts.size_bytes / 1e6:.1f} MB"),
        Cell(UNKNOWN if facts.latency_ms is None else f"{facts.latency_ms:.{0 if facts.latency_ms >= 100 else 1}f} ms"),
        Cell(_duration(facts.training_seconds)),
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


def _counted(count: int | None) -> str:
    """3.5 M, 300 M, 5.7 G."""
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
