"""Names of metrics and parameters in MLflow, and how metrics are read back.

MLflow's page of a run groups metrics by everything before the last `/` and sorts the groups and their charts by name;
nothing else orders them. So the names do it: `accuracy/` and `loss/` come first, with the curves of training and
validation beside each other, then `test/`, then the other curves (`train/`, `val/`), then `val_best/`. A group has
either curves or single values. Everywhere else, metrics keep the names of `metrics.json`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The run of a data set with more classes logs no value of each one: every store would be full of them.
MOST_CLASSES = 50
_LONGEST = 120  # characters of a class; MLflow takes 250 for the whole name


def key_of(name: str) -> str:
    """The name with `_` for each character that MLflow refuses; not necessarily unique."""
    return re.sub(r"[^\w.\- ]", "_", name)[:_LONGEST]


def class_keys(classes: Sequence[str]) -> list[str]:
    """A unique key for each class; one that is not unique ends with the class's label.

    Example:
        >>> class_keys(["cats", "a+b", "a*b"])
        ['cats', 'a_b 1', 'a_b 2']
    """
    keys = [key_of(name) for name in classes]
    return [key if keys.count(key) == 1 else f"{key} {label}" for label, key in enumerate(keys)]


# In this order, because MLflow's comparison of runs begins with the metric that was logged first.
_CURVES = {
    "val/accuracy": "accuracy/val",
    "train/accuracy": "accuracy/train",
    "val/loss": "loss/val",
    "train/loss": "loss/train",
    "lr": "train/lr",
    "epoch_seconds": "train/epoch_seconds",
}
_BEST, _STORED_BEST = "best/val/", "val_best/"
SELECTION_BIAS = "best.selection_bias"  # tag of a study's run: what its best value owes to luck, in sentences
SYSTEM = "system/"  # MLflow shows these metrics on a page of their own
_COUNT = re.compile(r"(train|val|test)/(tn|fp|fn|tp)")


def stored_name(name: str) -> str:
    """The name of a metric in MLflow; `best/val/NAME` is the value of the best epoch."""
    if name.startswith(_BEST):
        return _STORED_BEST + name.removeprefix(_BEST)
    return _CURVES.get(name, name)


def metric_name(stored: str) -> str:
    """The name of a metric of MLflow elsewhere; a name that an earlier version stored is such a name already."""
    if stored.startswith(_STORED_BEST):
        return _BEST + stored.removeprefix(_STORED_BEST)
    return next((name for name, other in _CURVES.items() if other == stored), stored)


def metric_value(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric among those of an MLflow run, also of an earlier version; None if it has none of that name."""
    value = metrics.get(stored_name(name))
    return metrics.get(name) if value is None else value


def read_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """All metrics of an MLflow run by the names that they have elsewhere.

    A run that began with an earlier version has some under both names; those that were logged last count.
    """
    earlier = {name: value for name, value in metrics.items() if metric_name(name) == name}
    return earlier | {metric_name(name): value for name, value in metrics.items() if metric_name(name) != name}


def curve_points(row: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an epoch as MLflow gets them: by their names there, without its number and without counts."""
    names = [*(name for name in _CURVES if name in row), *(name for name in row if name not in _CURVES)]
    return {stored_name(name): row[name] for name in names if name != "epoch" and not _COUNT.fullmatch(name)}


def final_values(metrics: Mapping[str, float]) -> dict[str, float]:
    """The values of a finished run as MLflow gets them: those of the best epoch's validation and of the test.

    Args:
        metrics: by the names of `metrics.json`.
    """
    test = {name: value for name, value in metrics.items() if name.startswith("test/")}
    best = {f"best/{name}": value for name, value in metrics.items() if name.startswith("val/")}
    values = {**test, **best}
    return {stored_name(name): x for name, x in values.items() if not _COUNT.fullmatch(name.removeprefix("best/"))}


def count_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """The confusion matrices of two classes as tags: counts of images are no metrics that one compares.

    Example:
        >>> count_tags({"test/tn": 8.0, "test/fp": 2.0, "test/fn": 1.0, "test/tp": 9.0, "test/loss": 0.5})
        {'confusion.test': 'tn 8, fp 2, fn 1, tp 9'}
    """
    counts: dict[str, list[str]] = {}
    for name, value in metrics.items():
        if found := _COUNT.fullmatch(name):
            counts.setdefault(found[1], []).append(f"{found[2]} {value:.0f}")
    return {f"confusion.{split}": ", ".join(parts) for split, parts in counts.items() if split != "train"}
