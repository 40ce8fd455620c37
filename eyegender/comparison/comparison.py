"""Compares runs: groups those with the same test images, measures each one, and tests which differences are real."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.caveats import caveats, headlines, warnings
from eyegender.comparison.pairs import Pair, compare_pairs
from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study, split_title, unit_of
from eyegender.models.intervals import Interval, bootstrap_intervals
from eyegender.models.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.run_record import RunRecord
    from eyegender.tracking.predictions import Predictions


_COUNT = "count.train."  # begins the parameters with the number of training images of each class


@dataclass(frozen=True)
class ComparedRun:
    """One run of the comparison.

    Args:
        number: position on the page, from 1; figures and sentences refer to it.
        record: the run itself.
        predictions: predictions for the test images, in the order that all runs of the group share.
        group: letter of the group of runs with which it can be compared.
        metrics: each of METRICS with its 95% interval.
        leads: whether its accuracy is the highest of its group.
        short_name: name without the options that all runs of the page share.
        classes: its class names in label order.
    """

    number: int
    record: RunRecord
    predictions: Predictions
    group: str
    metrics: dict[str, Interval]
    leads: bool
    short_name: str
    classes: tuple[str, ...] = ("female", "male")

    @property
    def is_of_eyes(self) -> bool:
        """Whether it is of the eye study: by the classes that it logged, else by those of the page."""
        return is_eye_study(self._class_names)

    @property
    def unit(self) -> str:
        """What the bootstrap and the tests resample if it is known: `person` or `image group`."""
        return unit_of(self._class_names)

    @property
    def split_title(self) -> str:
        """How its images were split, as a word."""
        return split_title(self.record.split_kind, self._class_names)

    @property
    def _class_names(self) -> Sequence[str]:
        return [name.removeprefix(_COUNT) for name in self.record.params if name.startswith(_COUNT)] or self.classes

    @property
    def label(self) -> str:
        """A label for legends, unique on the page."""
        return f"{self.number} {self.short_name if len(self.short_name) <= 40 else self.short_name[:39] + '…'}"


@dataclass(frozen=True)
class RunGroup:
    """Runs that can be compared: they have the same test images and the same split.

    Args:
        letter: A for the largest group.
        numbers: numbers of its runs, the most accurate first.
        n: number of test images.
        persons: number of persons on the test images, or of image groups; None if unknown.
        split_kind: `person` (`group`, if images are not of persons), `blocks`, `random`, `file` or `official`.
        unit: what `persons` counts: `person` or `image group`.
    """

    letter: str
    numbers: tuple[int, ...]
    n: int
    persons: int | None
    split_kind: str
    unit: str = "person"

    @property
    def has_units(self) -> bool:
        """Whether persons are known, or groups of more than one image."""
        return self.persons is not None and (self.unit == "person" or self.persons < self.n)

    @property
    def test_set(self) -> str:
        """For example `120 test images of 60 persons`."""
        return f"{self.n:,} test images" + (
            f" of {self.persons:,} {self.unit}s" if self.persons and self.has_units else ""
        )


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Args:
        numbers: numbers of the runs.
        seeds: their seeds, as configured.
        mean: mean of each of METRICS.
        spread: sample standard deviation of each of METRICS.
        one_test_set: whether all were tested on the same images; otherwise the spread includes that of the split.
    """

    numbers: tuple[int, ...]
    seeds: tuple[str, ...]
    mean: dict[str, float]
    spread: dict[str, float]
    one_test_set: bool


@dataclass(frozen=True)
class Comparison:
    """Everything that the page, the Markdown and the figures show.

    Args:
        runs: the runs, group by group, the most accurate first.
        groups: the groups, the largest first.
        pairs: the tested pairs, the smallest p-value first; of a large group only the pairs with its leader.
        n_compared: number of pairs for which the p-values are corrected, shown or not.
        seed_groups: configs that ran with two seeds or more.
        headlines: one sentence per group about its leader.
        left_out: one sentence per run that could not be compared.
        warnings: what a reader must know before the numbers.
        caveats: how to read the numbers.
        classes: the class names in label order: of the runs with two classes, if there are such runs.
        eye_study: whether a run is of the eye study, to which the paper's numbers belong.
    """

    runs: tuple[ComparedRun, ...]
    groups: tuple[RunGroup, ...]
    pairs: tuple[Pair, ...]
    n_compared: int
    seed_groups: tuple[SeedGroup, ...]
    headlines: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    caveats: tuple[str, ...]
    classes: tuple[str, ...] = ("female", "male")
    eye_study: bool = True

    @property
    def synthetic(self) -> bool:
        return any(run.record.synthetic for run in self.runs)


def compare(
    records: Sequence[RunRecord],
    *,
    classes: tuple[str, ...] = ("female", "male"),
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare runs; those without usable test predictions are listed in `left_out`.

    Args:
        records: one or more runs, in any order.
        classes: the class names in label order of the runs whose predictions do not name them.
        n_resamples: number of resamples of the bootstrap over persons.
        seed: seed of the bootstrap and of the sign flips; equal records and seeds give an equal page.

    Raises:
        UserError: no run can be compared.
    """
    usable, left_out = _usable(records)
    if not usable:
        raise UserError(
            f"none of {len(records)} runs can be compared: a comparison needs runs with a table of test predictions; "
            + ("restore the lost ones" if any(record.lost for record in records) else "train with run_test=true"),
            details=left_out,
        )
    runs: list[ComparedRun] = []
    groups: list[RunGroup] = []
    names = short_names([record for record, _ in usable])
    for position, members in enumerate(_grouped(usable)):
        letter = _letter(position)
        measured = [(record, table, _measure(table, n_resamples, seed)) for record, table in members]
        measured.sort(key=lambda one: (-one[2]["accuracy"].value, one[0].name, one[0].run_id))
        best = measured[0][2]["accuracy"].value
        first = len(runs) + 1
        for number, (record, table, metrics) in enumerate(measured, start=first):
            leads = len(measured) > 1 and metrics["accuracy"].value == best
            own = table.classes or classes
            runs.append(ComparedRun(number, record, table, letter, metrics, leads, names[record.run_id], own))
        table = measured[0][1]
        persons = None if table.persons is None else len(set(table.persons))
        numbers = tuple(range(first, len(runs) + 1))
        one = runs[first - 1]
        groups.append(RunGroup(letter, numbers, len(table), persons, one.split_title, one.unit))
    pairs, n_compared = compare_pairs(runs, groups, n_resamples=n_resamples, seed=seed)
    return Comparison(
        runs=tuple(runs),
        groups=tuple(groups),
        pairs=pairs,
        n_compared=n_compared,
        seed_groups=_seed_groups(runs),
        headlines=headlines(runs, groups, pairs),
        left_out=left_out,
        warnings=warnings(runs, groups),
        caveats=caveats(runs, groups, pairs, n_compared=n_compared),
        classes=next((run.classes for run in runs if not run.predictions.classes), runs[0].classes),
        eye_study=any(run.is_of_eyes for run in runs),
    )


def short_names(records: Sequence[RunRecord]) -> dict[str, str]:
    """Names by run id, without the options (`key=value`) that all runs share, and with the rarest options first.

    A name that is cut off in a legend therefore still identifies its run.
    """
    # A value may contain blanks, as {female: 300, male: 300} does: a word without = belongs to the option before it.
    split = {record.run_id: re.split(r" (?=\S*=)", record.name or record.run_id[:8]) for record in records}
    # An option that is given twice has its last value.
    words = {run_id: list({word.partition("=")[0]: word for word in own}.values()) for run_id, own in split.items()}
    counts = Counter(word for own in words.values() for word in set(own))
    names = {}
    for run_id, own in words.items():
        options = [word for word in own if "=" in word and (counts[word] < len(records) or len(records) == 1)]
        plain = [word for word in own if "=" not in word]
        names[run_id] = " ".join([*plain, *sorted(options, key=lambda option: counts[option])]) or own[0]
    return names


def _usable(records: Sequence[RunRecord]) -> tuple[list[tuple[RunRecord, Predictions]], tuple[str, ...]]:
    usable, left_out = [], []
    for record in records:
        table = record.predictions
        name = f"{record.name} ({record.run_id})"
        if table is None or not len(table):
            left_out.append(f"{name} {record.lost or 'stored no test predictions'}.")
        elif np.isnan(table.probabilities).any():
            n_missing = int(np.isnan(table.probabilities).reshape(len(table), -1).any(axis=1).sum())
            left_out.append(f"{name} diverged: {n_missing} of its probabilities are NaN.")
        else:
            usable.append((record, table.sorted()))
    return usable, tuple(left_out)


def _grouped(usable: Sequence[tuple[RunRecord, Predictions]]) -> list[list[tuple[RunRecord, Predictions]]]:
    """Group runs by their test images and their split. The image size is part of the model and not of the data.

    If one run of a group stored the persons on its images, they are used for the whole group.
    """
    groups: dict[tuple[str, str], list[tuple[RunRecord, Predictions]]] = {}
    for record, table in usable:
        groups.setdefault((table.fingerprint, record.tags.get("split.fingerprint", "")), []).append((record, table))
    for members in groups.values():
        persons = next((table.persons for _, table in members if table.persons is not None), None)
        members[:] = [(record, replace(table, persons=persons)) for record, table in members]
    return sorted(groups.values(), key=lambda members: -len(members))


def _measure(table: Predictions, n_resamples: int, seed: int) -> dict[str, Interval]:
    return bootstrap_intervals(table.labels, table.probabilities, table.persons, n_resamples=n_resamples, seed=seed)


def _seed_groups(runs: Sequence[ComparedRun]) -> tuple[SeedGroup, ...]:
    by_config: dict[tuple[tuple[str, str], ...], list[ComparedRun]] = {}
    for run in runs:
        by_config.setdefault(run.record.config_key, []).append(run)
    groups = []
    for same_config in by_config.values():
        members = sorted(same_config, key=lambda run: (len(run.record.seed), run.record.seed, run.number))
        if len({run.record.seed for run in members}) < 2:
            continue
        values = {name: np.array([run.metrics[name].value for run in members]) for name in METRICS}
        groups.append(
            SeedGroup(
                numbers=tuple(run.number for run in members),
                seeds=tuple(run.record.seed for run in members),
                mean={name: float(each.mean()) for name, each in values.items()},
                spread={name: float(each.std(ddof=1)) for name, each in values.items()},
                one_test_set=len({run.group for run in members}) == 1,
            )
        )
    return tuple(groups)


def _letter(position: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
