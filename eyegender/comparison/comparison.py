"""Runs side by side: what can be compared, how sure each number is, and which differences are real."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.caveats import headlines, remarks, warnings
from eyegender.models.intervals import Interval, bootstrap_intervals
from eyegender.comparison.pairs import ALL_PAIRS_UP_TO, Pair, compare_pairs
from eyegender.core.errors import UserError
from eyegender.models.binary_metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.run_record import Predictions, RunRecord


@dataclass(frozen=True)
class Row:
    """One run of the table.

    Args:
        number: its place in the table, from 1; figures refer to it.
        record: the run.
        predictions: its test predictions in the order that its whole group shares.
        group: letter of the runs that it can be compared with.
        metrics: each of METRICS with its 95% interval.
        leads: whether its accuracy is the highest of its group.
        short: its name without what all runs of the page have in their names.
    """

    number: int
    record: RunRecord
    predictions: Predictions
    group: str
    metrics: dict[str, Interval]
    leads: bool
    short: str

    @property
    def label(self) -> str:
        """Unique on the page, and short enough for a legend."""
        return f"{self.number} {self.short if len(self.short) <= 40 else self.short[:39] + '…'}"


@dataclass(frozen=True)
class Group:
    """Runs whose numbers can be compared: same test pictures, same split.

    Args:
        letter: A for the largest one.
        numbers: of its rows.
        n: test pictures.
        persons: how many persons they show; None where nobody knows.
        split_kind: `person`, `blocks`, `random`, `file` or `official`.
    """

    letter: str
    numbers: tuple[int, ...]
    n: int
    persons: int | None
    split_kind: str


@dataclass(frozen=True)
class Pool:
    """Seeds of one config.

    Args:
        numbers: of its rows.
        seeds: as configured.
        mean: of each of METRICS.
        spread: sample standard deviation of each.
        one_test_set: whether all were tested on the same pictures; or the spread holds the draw of the split too.
    """

    numbers: tuple[int, ...]
    seeds: tuple[str, ...]
    mean: dict[str, float]
    spread: dict[str, float]
    one_test_set: bool


@dataclass(frozen=True)
class Comparison:
    """Everything that the page, the Markdown and the figures say.

    Args:
        rows: group by group, the most accurate first.
        groups: the largest first.
        pairs: with the smallest p-value first; of a large group those with its leader only.
        n_compared: how many pairs the p-values are corrected for, shown or not.
        pools: configs that ran with two seeds or more.
        headlines: one sentence per group: who leads, and whether that is more than chance.
        left_out: one sentence per run that could not be compared.
        warnings: sentences that a reader must see before the numbers.
        remarks: sentences on how to read them.
        classes: the two class names in label order.
    """

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    n_compared: int
    pools: tuple[Pool, ...]
    headlines: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]
    classes: tuple[str, str] = ("female", "male")

    @property
    def synthetic(self) -> bool:
        return any(row.record.synthetic for row in self.rows)


def compare(
    records: Sequence[RunRecord],
    *,
    classes: tuple[str, str] = ("female", "male"),
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare runs; those without usable test predictions are named and left out.

    Args:
        records: one or more runs, in any order.
        classes: the two class names in label order.
        n_resamples: of the bootstrap over persons.
        seed: of the bootstrap and of the flipped signs; the same records and seed give the same page.

    Raises:
        UserError: no run is left.
    """
    usable, left_out = _usable(records)
    if not usable:
        raise UserError(
            f"none of {len(records)} runs can be compared: a comparison needs runs with a table of test predictions; "
            + ("put the lost ones back" if any(record.lost for record in records) else "train with run_test=true"),
            details=left_out,
        )
    rows: list[Row] = []
    groups: list[Group] = []
    short = short_names([record for record, _ in usable])
    for position, members in enumerate(_grouped(usable)):
        letter = _letter(position)
        measured = [(record, table, _measure(table, n_resamples, seed)) for record, table in members]
        measured.sort(key=lambda one: (-one[2]["accuracy"].value, one[0].name, one[0].run_id))
        top = measured[0][2]["accuracy"].value
        first = len(rows) + 1
        for number, (record, table, metrics) in enumerate(measured, start=first):
            leads = len(measured) > 1 and metrics["accuracy"].value == top
            rows.append(Row(number, record, table, letter, metrics, leads, short[record.run_id]))
        shown = measured[0][1]
        persons = None if shown.persons is None else len(set(shown.persons))
        numbers = tuple(range(first, len(rows) + 1))
        groups.append(Group(letter, numbers, len(shown), persons, measured[0][0].split_kind))
    pairs, n_compared = compare_pairs(rows, groups, n_resamples=n_resamples, seed=seed)
    return Comparison(
        rows=tuple(rows),
        groups=tuple(groups),
        pairs=pairs,
        n_compared=n_compared,
        pools=_pools(rows),
        headlines=headlines(rows, groups, pairs),
        left_out=left_out,
        warnings=warnings(rows, groups),
        remarks=remarks(rows, groups, pairs, n_compared=n_compared, all_pairs_up_to=ALL_PAIRS_UP_TO),
        classes=classes,
    )


def _usable(records: Sequence[RunRecord]) -> tuple[list[tuple[RunRecord, Predictions]], tuple[str, ...]]:
    usable, left_out = [], []
    for record in records:
        table = record.predictions
        who = f"{record.name} ({record.run_id})"
        if table is None or not len(table):
            left_out.append(f"{who} {record.lost or 'stored no test predictions'}.")
        elif np.isnan(table.probabilities).any():
            left_out.append(f"{who} diverged: {int(np.isnan(table.probabilities).sum())} of its probabilities are NaN.")
        else:
            usable.append((record, table.sorted()))
    return usable, tuple(left_out)


def _grouped(usable: Sequence[tuple[RunRecord, Predictions]]) -> list[list[tuple[RunRecord, Predictions]]]:
    """By what was tested on and what the split left for training; the picture size is a choice, not other data.

    Who is on the pictures is a fact about them: one run that knows tells all of its group.
    """
    groups: dict[tuple[str, str], list[tuple[RunRecord, Predictions]]] = {}
    for record, table in usable:
        groups.setdefault((table.fingerprint, record.tags.get("split.fingerprint", "")), []).append((record, table))
    for members in groups.values():
        known = next((table.persons for _, table in members if table.persons is not None), None)
        members[:] = [(record, replace(table, persons=known)) for record, table in members]
    return sorted(groups.values(), key=lambda members: -len(members))


def _measure(table: Predictions, n_resamples: int, seed: int) -> dict[str, Interval]:
    return bootstrap_intervals(table.labels, table.probabilities, table.persons, n_resamples=n_resamples, seed=seed)


def _pools(rows: Sequence[Row]) -> tuple[Pool, ...]:
    configs: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        configs.setdefault(row.record.config_key, []).append(row)
    pools = []
    for rows_of_config in configs.values():
        members = sorted(rows_of_config, key=lambda row: (len(row.record.seed), row.record.seed, row.number))
        if len({row.record.seed for row in members}) < 2:
            continue
        values = {name: np.array([row.metrics[name].value for row in members]) for name in METRICS}
        pools.append(
            Pool(
                numbers=tuple(row.number for row in members),
                seeds=tuple(row.record.seed for row in members),
                mean={name: float(each.mean()) for name, each in values.items()},
                spread={name: float(each.std(ddof=1)) for name, each in values.items()},
                one_test_set=len({row.group for row in members}) == 1,
            )
        )
    return tuple(pools)


def short_names(records: Sequence[RunRecord]) -> dict[str, str]:
    """By run id: the names without the options (`key=value`) that all of them share, the rarest options first.

    So a name that is cut short in a legend still tells its run from the others.
    """
    # A value may hold blanks, as {female: 300, male: 300} does: a word without = belongs to the option before it.
    names = {record.run_id: re.split(r" (?=\S*=)", record.name or record.run_id[:8]) for record in records}
    counts = Counter(option for own in names.values() for option in set(own))
    found = {}
    for run_id, own in names.items():
        options = [option for option in own if "=" in option and (counts[option] < len(records) or len(records) == 1)]
        plain = [word for word in own if "=" not in word]
        found[run_id] = " ".join([*plain, *sorted(options, key=lambda option: counts[option])]) or own[0]
    return found


def _letter(position: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
