from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.comparison_error import Setting, measure
from eyegender.models.intervals import wilson_interval
from eyegender.comparison.significance import mcnemar
from eyegender.comparison.significance import Contest, corrected_p_values


def drawn(accuracies: list[float], n: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((len(accuracies), n)) < np.array(accuracies)[:, None]


def all_pairs(right: np.ndarray, persons: list[str] | None = None) -> Contest:
    return Contest(right, persons, list(combinations(range(len(right)), 2)))


@pytest.mark.parametrize("per_person", [1, 2])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_equal_runs_are_rarely_called_different_and_a_better_one_is_found(per_person: int, shared: float) -> None:
    """A quick form of `python -m benchmarks.comparison_error`, which measures 2, 11 and 40 runs 2,000 times each."""
    repetitions = 150
    found = measure(Setting(11, 1200, per_person, shared), repetitions, resamples=199)
    for wrong in (found.wrong, found.wrong_beside_better):
        assert wilson_interval(wrong, repetitions).low <= 0.05
    assert found.power > (0.35 if shared else 0.1)


def test_the_leader_is_corrected_for_all_pairs_that_could_have_been_picked() -> None:
    """Among 20 equal runs the two extremes look different by a test of theirs alone; among all pairs they are not."""
    right = drawn([0.9] * 20, seed=1)
    order = np.argsort(-right.mean(axis=1))
    extremes = (int(order[0]), int(order[-1]))
    assert mcnemar(right[extremes[0]], right[extremes[1]]).p_value < 0.05
    contest = all_pairs(right)
    [corrected] = corrected_p_values([contest])
    assert corrected[contest.pairs.index((min(extremes), max(extremes)))] > 0.05


def test_a_pair_alone_gets_its_own_p_value() -> None:
    first, second = drawn([0.9, 0.87])
    [[corrected]] = corrected_p_values([all_pairs(np.stack([first, second]))], n_resamples=20_000)
    assert corrected == pytest.approx(mcnemar(first, second).p_value, abs=0.01)


def test_a_second_eye_that_says_the_same_changes_no_corrected_p_value() -> None:
    right = drawn([0.9, 0.87, 0.85, 0.85])
    persons = [f"p{i}" for i in range(right.shape[1])]
    once, twice = all_pairs(right, persons), all_pairs(np.tile(right, 2), persons * 2)
    assert corrected_p_values([once], n_resamples=500) == corrected_p_values([twice], n_resamples=500)


def test_runs_that_say_the_same_cost_nothing() -> None:
    """Twenty copies of one run are one rival, not twenty: a correction by the number of pairs would say 210."""
    better, other = drawn([0.95, 0.9], seed=2)
    contest = all_pairs(np.stack([better, *[other] * 20]))
    [corrected] = corrected_p_values([contest])
    p = mcnemar(better, other).p_value
    assert corrected[:20] == pytest.approx([p] * 20, abs=0.01)
    assert corrected[20:] == [1.0] * 190


def test_corrected_p_values_are_never_smaller_in_more_company() -> None:
    right = drawn([0.9, 0.86, 0.9])
    alone = corrected_p_values([all_pairs(right)], n_resamples=999)[0]
    beside = corrected_p_values([all_pairs(right), all_pairs(drawn([0.8] * 8, seed=5))], n_resamples=999)[0]
    assert all(b >= a - 0.02 for a, b in zip(alone, beside, strict=True))
    assert beside != alone


def test_the_seed_decides_and_nothing_to_compare_is_nothing() -> None:
    contest = all_pairs(drawn([0.9, 0.87, 0.86]))
    assert corrected_p_values([contest], seed=3) == corrected_p_values([contest], seed=3)
    assert corrected_p_values([]) == []
    assert corrected_p_values([Contest(drawn([0.9]), None, [])]) == [[]]
    agreed = np.ones((3, 5), dtype=bool)
    assert corrected_p_values([all_pairs(agreed)], n_resamples=99) == [[1.0, 1.0, 1.0]]
