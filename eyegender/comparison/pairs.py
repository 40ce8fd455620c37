"""Pairs of runs: which differences are significant, with p-values corrected for all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.significance import SIGNIFICANCE_LEVEL, McNemar, PairedRuns, corrected_p_values, mcnemar
from eyegender.models.intervals import Interval, bootstrap_differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.compared import ComparedRun, RunGroup

# In a larger group, each run is shown against the most accurate one only.
ALL_PAIRS_UP_TO = 10


@dataclass(frozen=True)
class Pair:
    """Two runs of one group.

    Args:
        first: first run.
        second: second run.
        test: McNemar's test of the two.
        p_corrected: p-value of the test, corrected for all pairs.
        difference: accuracy of the first run minus accuracy of the second, with its 95% interval.
    """

    first: ComparedRun
    second: ComparedRun
    test: McNemar
    p_corrected: float
    difference: Interval

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at the corrected 5% level."""
        return self.p_corrected < SIGNIFICANCE_LEVEL

    def other(self, run: ComparedRun) -> ComparedRun:
        return self.second if run.number == self.first.number else self.first

    @property
    def sentence(self) -> str:
        return self.test.verdict(f"#{self.first.number}", f"#{self.second.number}", self.p_corrected)


def compare_pairs(
    runs: Sequence[ComparedRun], groups: Sequence[RunGroup], *, n_resamples: int, seed: int
) -> tuple[tuple[Pair, ...], int]:
    """The pairs to show, and the number of pairs for which their p-values are corrected.

    The correction covers every pair within a group, shown or not, because any run could have become the leader. Two
    seeds of one config are not a pair: their difference is known to be chance.
    """
    test_sets: list[PairedRuns] = []
    for group in groups:
        members = [runs[number - 1] for number in group.numbers]
        positions = [
            (i, j)
            for i, j in combinations(range(len(members)), 2)
            if members[i].record.config_key != members[j].record.config_key
        ]
        correct = np.stack([run.predictions.correct for run in members])
        test_sets.append(PairedRuns(correct, members[0].predictions.persons, positions))
    n_compared = sum(len(test_set.pairs) for test_set in test_sets)
    pairs: list[Pair] = []
    for group, test_set, p_values in zip(groups, test_sets, corrected_p_values(test_sets, seed=seed), strict=True):
        leader_only = len(group.numbers) > ALL_PAIRS_UP_TO
        shown = [(pair, p) for pair, p in zip(test_set.pairs, p_values, strict=True) if not leader_only or pair[0] == 0]
        if not shown:
            continue
        first, second = (test_set.correct[[pair[side] for pair, _ in shown]] for side in (0, 1))
        differences = bootstrap_differences(first, second, test_set.persons, n_resamples=n_resamples, seed=seed)
        for ((i, j), p), difference in zip(shown, differences, strict=True):
            test = mcnemar(test_set.correct[i], test_set.correct[j], test_set.persons)
            # The corrected p-value is an estimate from resamples and never below the exact one. A single pair needs no
            # correction.
            p_corrected = test.p_value if n_compared == 1 else max(p, test.p_value)
            pairs.append(Pair(runs[group.numbers[i] - 1], runs[group.numbers[j] - 1], test, p_corrected, difference))
    pairs.sort(key=lambda pair: (pair.p_corrected, pair.test.p_value, pair.first.number, pair.second.number))
    return tuple(pairs), n_compared
