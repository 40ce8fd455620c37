"""Studies side by side: their best values over trials and seconds, and tests of their winners."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.comparison.significance import SIGNIFICANCE_LEVEL, McNemar, PairedRuns, corrected_p_values, mcnemar
from eyegender.core.errors import UserError
from eyegender.models.intervals import Interval, bootstrap_differences
from eyegender.studies.reports.charts import best_so_far
from eyegender.studies.reports.drawn_trials import metric_names, seconds_of_trial
from eyegender.studies.selection_bias import read_predictions
from eyegender.tracking.predictions import PREDICTIONS_FILE, VAL_PREDICTIONS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.tracking.predictions import Predictions
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

TEST, VALIDATION = "test", "validation"
# Overrides and settings in which two seeds of one study differ, or that change no result.
_NOT_COMPARED = ("seed", "data.split.seed", "output", "overwrite", "ckpt_path", "tracking", "hydra")


@dataclass(frozen=True)
class StudyCurve:
    """One study of a comparison.

    Args:
        status: its state.
        metric: name of its objective; `value` if unknown.
        trials: number of trials that had ended, those that failed included, at each new best value.
        seconds: seconds that these trials had taken together.
        values: the best value then.
        total: number of ended trials, and seconds that they took.
        predictions: what its winner predicted, by `test` and `validation`, as far as known.
    """

    status: StudyStatus
    metric: str
    trials: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]
    total: tuple[float, float]
    predictions: dict[str, Predictions]

    @property
    def name(self) -> str:
        return self.status.name

    def seconds_to(self, value: float) -> float | None:
        """Seconds until the best value was at least as good as this one; None if it never was."""
        sign = 1 if self.status.directions[0] == "maximize" else -1
        return next((s for s, best in zip(self.seconds, self.values, strict=True) if sign * (best - value) >= 0), None)


@dataclass(frozen=True)
class StudyGroup:
    """Studies that differ only in their seeds, or a single study.

    Args:
        name: its name on the page.
        members: the studies.
    """

    name: str
    members: Sequence[StudyCurve]


@dataclass(frozen=True)
class WinnerTest:
    """The test of the winners of two studies on the same images.

    Args:
        first: name of the first study.
        second: name of the second study.
        on: `test` or `validation`.
        result: McNemar's test.
        p_corrected: its p-value, corrected for all pairs.
        difference: accuracy of the first winner minus that of the second, with its 95% interval.
    """

    first: str
    second: str
    on: str
    result: McNemar
    p_corrected: float
    difference: Interval

    @property
    def significant(self) -> bool:
        return self.p_corrected < SIGNIFICANCE_LEVEL

    @property
    def sentence(self) -> str:
        names = f"the winner of {self.first}", f"the winner of {self.second}"
        text = self.result.verdict(*names, self.p_corrected)
        return text[0].upper() + text[1:]


def study_curve(
    study: Any, status: StudyStatus, predictions: Callable[[TrialRow], dict[str, Predictions]]
) -> StudyCurve:
    """A study as it is compared.

    Args:
        study: Optuna's study.
        status: its state.
        predictions: reads what a trial predicted, by `test` and `validation`.
    """
    maximize = status.directions[0] == "maximize"
    ended = [row for row in status.trials if row.state in ("complete", "pruned", "failed")]
    ended.sort(key=lambda row: (row.ended.timestamp() if row.ended else 0.0, row.number))
    spent = np.cumsum([seconds_of_trial(row) or 0.0 for row in ended])
    best = best_so_far(ended, maximize=maximize)
    winner = status.winner
    return StudyCurve(
        status=status,
        metric=metric_names(study, status)[0],
        trials=[float(i + 1) for i, _ in best],
        seconds=[float(spent[i]) for i, _ in best],
        values=[value for _, value in best],
        total=(float(len(ended)), float(spent[-1]) if ended else 0.0),
        predictions={} if winner is None else predictions(winner),
    )


def check_comparable(statuses: Sequence[StudyStatus], metrics: Sequence[str]) -> None:
    """Refuse studies whose values cannot be compared.

    Args:
        statuses: the states of the studies.
        metrics: the name of the objective of each one; `value` if unknown.

    Raises:
        UserError: they have different objectives or directions, or one of them has several objectives.
    """
    for status in statuses:
        if len(status.directions) > 1:
            raise UserError(
                f"study must name studies with one objective, got {status.name!r} with {len(status.directions)}; "
                "compare its trials with eyegender study"
            )
    first = statuses[0]
    known = next((metric for metric in metrics if metric != "value"), "value")
    for status, metric in zip(statuses, metrics, strict=True):
        if status.directions != first.directions or metric not in ("value", known):
            of_first = next((s for s, m in zip(statuses, metrics, strict=True) if m == known), first)
            raise UserError(
                f"study must name studies with the same objective, got {of_first.directions[0]} {known} "
                f"({of_first.name!r}) and {status.directions[0]} {metric} ({status.name!r}); compare them apart"
            )


def seed_groups(curves: Sequence[StudyCurve]) -> list[StudyGroup]:
    """Studies that are the same but for their seeds, together, in the order in which they were given.

    They have the same search space, fixed values, settings, sampler, pruner and scheduler. A study of an earlier
    version that does not say all of these is alone.
    """
    groups: dict[str, list[StudyCurve]] = {}
    for curve in curves:
        groups.setdefault(_identity(curve.status) or f"study {curve.name}", []).append(curve)
    return [
        StudyGroup(members[0].name if len(members) == 1 else _common_name([one.name for one in members]), members)
        for members in groups.values()
    ]


def band(members: Sequence[StudyCurve], of: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Positions, and at each one the lowest, mean and highest best value of several studies.

    It begins where each study has a value, and ends where the shortest study ends.

    Args:
        members: the studies, each of which has a value.
        of: `trials` or `seconds`.
    """
    at = [np.asarray(getattr(member, of)) for member in members]
    end = min(member.total[0 if of == "trials" else 1] for member in members)
    begin = max(positions[0] for positions in at)
    x = np.unique(np.concatenate([*at, [begin, end]]))
    x = x[(x >= begin) & (x <= max(begin, end))]
    values = np.stack(
        [
            np.asarray(member.values)[np.searchsorted(positions, x, side="right") - 1]
            for member, positions in zip(members, at, strict=True)
        ]
    )
    return x, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def winner_tests(
    groups: Sequence[StudyGroup], parts: Sequence[str] = (TEST, VALIDATION)
) -> tuple[list[WinnerTest], list[str]]:
    """The tests of all pairs of winners of different groups, and one sentence for each pair that cannot be tested.

    A pair is tested on test images if both winners were tested on the same ones; else on the validation images, if
    these are the same. The p-values are corrected for all pairs; see `corrected_p_values`.

    Args:
        groups: the studies.
        parts: on which images a pair may be tested, the preferred ones first.
    """
    curves = [curve for group in groups for curve in group.members]
    group_of = {curve.name: i for i, group in enumerate(groups) for curve in group.members}
    wanted = [(a, b) for a, b in combinations(curves, 2) if group_of[a.name] != group_of[b.name]]
    by_images: dict[tuple[str, str], list[tuple[StudyCurve, StudyCurve]]] = {}
    impossible = []
    for a, b in wanted:
        for on in parts:
            if on in a.predictions and on in b.predictions:
                fingerprint = a.predictions[on].fingerprint
                if fingerprint == b.predictions[on].fingerprint:
                    by_images.setdefault((on, fingerprint), []).append((a, b))
                    break
        else:
            impossible.append(f"The winners of {a.name} and {b.name} cannot be tested: {_why_not(a, b)}.")
    sets, tested = [], []
    for (on, _), pairs in by_images.items():
        own = list({curve.name: curve for pair in pairs for curve in pair}.values())
        place = {curve.name: i for i, curve in enumerate(own)}
        tables = [curve.predictions[on].sorted() for curve in own]
        correct = np.stack([table.correct for table in tables])
        persons = next((table.persons for table in tables if table.persons is not None), None)
        sets.append(PairedRuns(correct, persons, [(place[a.name], place[b.name]) for a, b in pairs]))
        tested.append((on, pairs))
    count, found = sum(len(one.pairs) for one in sets), []
    for one, (on, pairs), p_values in zip(sets, tested, corrected_p_values(sets), strict=True):
        firsts, seconds = (one.correct[[pair[side] for pair in one.pairs]] for side in (0, 1))
        differences = bootstrap_differences(firsts, seconds, one.persons)
        for (a, b), (i, j), p, difference in zip(pairs, one.pairs, p_values, differences, strict=True):
            result = mcnemar(one.correct[i], one.correct[j], one.persons)
            corrected = result.p_value if count == 1 else max(p, result.p_value)
            found.append(WinnerTest(a.name, b.name, on, result, corrected, difference))
    return sorted(found, key=lambda test: (test.p_corrected, test.result.p_value)), impossible


def _why_not(a: StudyCurve, b: StudyCurve) -> str:
    for curve in (a, b):
        if curve.status.winner is None:
            return f"{curve.name} has no winner"
        if not curve.predictions:
            return f"no predictions of trial {curve.status.winner.number} of {curve.name} are found"
    return "they predicted different images"


def _identity(status: StudyStatus) -> str | None:
    """Equal for studies that differ only in their seeds; None for a study that does not say what it is."""
    known = status.definition
    if not all(name in known for name in ("space", "fixed", "common", "methods")):
        return None
    fixed = sorted(line for line in known["fixed"] if not _is_free(line.lstrip("+~").partition("=")[0]))
    common = {key: text for key, text in known["common"].items() if not _is_free(key)}
    facts = [known["space"], known.get("custom_search_space"), fixed, common, known["methods"], status.directions]
    return json.dumps(facts, sort_keys=True, default=str)


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _NOT_COMPARED)


def _common_name(names: Sequence[str]) -> str:
    """What the names begin with, and how many there are: `tpe (3 seeds)`."""
    first, last = min(names), max(names)
    length = next((i for i, letter in enumerate(first) if i >= len(last) or letter != last[i]), len(first))
    stem = first[:length].rstrip(" ._-0123456789=") or ", ".join(names)
    for word in ("seed", "s"):
        if stem.endswith((f"_{word}", f"-{word}")):
            stem = stem[: -len(word) - 1]
    return f"{stem} ({len(names)} seeds)"


def stored_predictions(folder: Path) -> dict[str, Predictions]:
    """The predictions in the folder of a trial, by `test` and `validation`."""
    files = {TEST: PREDICTIONS_FILE, VALIDATION: VAL_PREDICTIONS_FILE}
    found = {on: read_predictions(folder / file) for on, file in files.items()}
    return {on: table for on, table in found.items() if table is not None}
