"""Compares runs: groups those with the same test images, measures each one, and tests which differences are real."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.answer import headlines
from eyegender.comparison.caveats import caveats, warnings
from eyegender.comparison.compared import TITLES, ComparedRun, Part, RunGroup, SeedGroup
from eyegender.comparison.labels import run_labels
from eyegender.comparison.pairs import Pair, compare_pairs
from eyegender.core.errors import UserError
from eyegender.models.intervals import Interval, bootstrap_intervals, share_interval
from eyegender.models.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.run_record import RunRecord
    from eyegender.tracking.predictions import Predictions


_MOST_LEFT_OUT = 20  # runs that are named one by one


@dataclass(frozen=True)
class Comparison:
    """Everything that the page, the Markdown and the figures show.

    Args:
        runs: the runs, group by group, the most accurate first.
        groups: the groups, the largest first.
        pairs: the tested pairs, the smallest p-value first; of a large group only the pairs with its leader.
        n_compared: number of pairs for which the p-values are corrected, shown or not.
        seed_groups: configs that ran with two seeds or more.
        headlines: the answer of each group in a sentence: its best run, and whether it is better than the others.
        left_out: one sentence per run that could not be compared, or about many of them.
        warnings: what a reader must know before the numbers.
        caveats: how to read the numbers.
        classes: the class names in label order: of the runs with two classes, if there are such runs.
        paper: whether a run was trained on the paper's data, to which its numbers belong.
        part: whether all numbers are from the test or from the validation images.
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
    paper: bool = False
    part: Part = "test"

    @property
    def synthetic(self) -> bool:
        return any(run.record.synthetic for run in self.runs)


def compare(
    records: Sequence[RunRecord],
    *,
    classes: tuple[str, ...] = ("female", "male"),
    part: Part = "test",
    left_out: Sequence[str] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare runs; those without usable predictions are listed in `left_out`.

    Args:
        records: one or more runs, in any order.
        classes: the class names in label order of the runs whose predictions do not name them.
        part: whether the records have predictions for the test or for the validation images.
        left_out: sentences about runs that were not even loaded.
        n_resamples: number of resamples of the bootstrap over persons.
        seed: seed of the bootstrap and of the sign flips; equal records and seeds give an equal page.

    Raises:
        UserError: no run can be compared.
    """
    usable, unusable = _usable(records, part)
    if not usable:
        raise UserError(
            f"none of {len(records)} runs can be compared: a comparison needs runs with a table of {TITLES[part]} "
            "predictions; "
            + ("restore the lost ones" if any(record.lost for record in records) else "train with run_test=true"),
            details=unusable,
        )
    runs: list[ComparedRun] = []
    groups: list[RunGroup] = []
    names = run_labels([record for record, _ in usable])
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
        groups.append(RunGroup(letter, numbers, len(table), persons, one.split_title, one.unit, part))
    pairs, n_compared = compare_pairs(runs, groups, n_resamples=n_resamples, seed=seed)
    seed_groups = _seed_groups(runs)
    return Comparison(
        runs=tuple(runs),
        groups=tuple(groups),
        pairs=pairs,
        n_compared=n_compared,
        seed_groups=seed_groups,
        headlines=headlines(runs, groups, pairs, seed_groups),
        left_out=(*left_out, *unusable),
        warnings=warnings(runs, groups, part),
        caveats=caveats(runs, groups, pairs, n_compared=n_compared, part=part),
        classes=next((run.classes for run in runs if not run.predictions.classes), runs[0].classes),
        paper=part == "test" and any(run.is_of_paper for run in runs),
        part=part,
    )


def _usable(records: Sequence[RunRecord], part: Part) -> tuple[list[tuple[RunRecord, Predictions]], tuple[str, ...]]:
    usable, left_out = [], []
    for record in records:
        table = record.predictions
        name = f"{record.name} ({record.run_id})"
        if table is None or not len(table):
            left_out.append(f"{name} {record.lost or f'stored no {TITLES[part]} predictions'}.")
        elif np.isnan(table.probabilities).any():
            n_missing = int(np.isnan(table.probabilities).reshape(len(table), -1).any(axis=1).sum())
            left_out.append(f"{name} diverged: {n_missing} of its probabilities are NaN.")
        else:
            usable.append((record, table.sorted()))
    if len(left_out) > _MOST_LEFT_OUT:
        more = len(left_out) - _MOST_LEFT_OUT
        left_out = [*left_out[:_MOST_LEFT_OUT], f"{more:,} more have no usable {TITLES[part]} predictions."]
    return usable, tuple(left_out)


def _grouped(usable: Sequence[tuple[RunRecord, Predictions]]) -> list[list[tuple[RunRecord, Predictions]]]:
    """Group runs by their images and their split. The image size is part of the model and not of the data.

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
    found = bootstrap_intervals(table.labels, table.probabilities, table.persons, n_resamples=n_resamples, seed=seed)
    if found["accuracy"].value in (0.0, 1.0):  # a bootstrap of equal images has an interval without width
        found["accuracy"] = share_interval(table.correct, table.persons)
    return found


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
