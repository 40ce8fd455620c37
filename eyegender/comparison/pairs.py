"""Pairs of runs: which differences are more than chance, after all pairs that could have been picked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from eyegender.models.intervals import Interval, bootstrap_differences
from eyegender.comparison.significance import SIGNIFICANT, McNemar, mcnemar
from eyegender.comparison.significance import Contest, corrected_p_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.comparison import Group, Row

# Up to so many runs of a group every pair is shown; beyond, each run against the best one of its group only.
ALL_PAIRS_UP_TO = 10


@dataclass(frozen=True)
class Pair:
    """Two runs of one group: McNemar's test, its p-value after all pairs, and the difference with its 95% interval."""

    first: Row
    second: Row
    test: McNemar
    p_corrected: float
    difference: Interval

    @property
    def sure(self) -> bool:
        """Whether the difference is more than chance, at the corrected 5% level."""
        return self.p_corrected < SIGNIFICANT

    def other(self, row: Row) -> Row:
        return self.second if row.number == self.first.number else self.first

    @property
    def sentence(self) -> str:
        return self.test.verdict(f"#{self.first.number}", f"#{self.second.number}", self.p_corrected)


def compare_pairs(
    rows: Sequence[Row], groups: Sequence[Group], *, n_resamples: int, seed: int
) -> tuple[tuple[Pair, ...], int]:
    """The pairs to show, and for how many their p-values are corrected.

    Every pair within a group counts, whichever is shown: any run could have come out as the leader. Seeds of one config
    are no pair, their difference is known to be chance.
    """
    contests: list[Contest] = []
    for group in groups:
        members = [rows[number - 1] for number in group.numbers]
        pairs = [
            (i, j)
            for i, j in combinations(range(len(members)), 2)
            if members[i].record.config_key != members[j].record.config_key
        ]
        right = np.stack([row.predictions.right for row in members])
        contests.append(Contest(right, members[0].predictions.persons, pairs))
    n_compared = sum(len(contest.pairs) for contest in contests)
    found: list[Pair] = []
    for group, contest, corrected in zip(groups, contests, corrected_p_values(contests, seed=seed), strict=True):
        many = len(group.numbers) > ALL_PAIRS_UP_TO
        shown = [(pair, p) for pair, p in zip(contest.pairs, corrected, strict=True) if not many or pair[0] == 0]
        if not shown:
            continue
        first, second = (contest.right[[pair[side] for pair, _ in shown]] for side in (0, 1))
        differences = bootstrap_differences(first, second, contest.persons, n_resamples=n_resamples, seed=seed)
        for ((i, j), p), difference in zip(shown, differences, strict=True):
            test = mcnemar(contest.right[i], contest.right[j], contest.persons)
            # The corrected one is drawn; it is never below the exact one, and a pair alone needs no correction.
            p_corrected = test.p_value if n_compared == 1 else max(p, test.p_value)
            found.append(Pair(rows[group.numbers[i] - 1], rows[group.numbers[j] - 1], test, p_corrected, difference))
    found.sort(key=lambda pair: (pair.p_corrected, pair.test.p_value, pair.first.number, pair.second.number))
    return tuple(found), n_compared
