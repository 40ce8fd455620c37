from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from benchmarks.comparison_error import Setting, measure
from eyegender.comparison.significance import PairedRuns, corrected_p_values, format_p, mcnemar
from eyegender.models.intervals import wilson_interval


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.repeat([(1, 1), (1, 0), (0, 1), (0, 0)], [both, first, second, neither], axis=0).astype(bool)
    return cells[:, 0], cells[:, 1]


@pytest.mark.parametrize(("first", "second"), [(9, 2), (25, 0), (40, 20), (161, 160), (900, 1000)])
def test_p_value_is_exact_for_any_number_of_disagreements(first: int, second: int) -> None:
    found = mcnemar(*outcomes(400, first, second, 40))
    assert (found.n, found.only_first, found.only_second) == (440 + first + second, first, second)
    assert found.p_value == pytest.approx(binomtest(first, first + second).pvalue)
    assert found.difference == pytest.approx((first - second) / found.n)


def test_p_value_calculated_by_hand() -> None:
    # 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048.
    assert mcnemar(*outcomes(80, 9, 2, 9)).p_value == pytest.approx(0.0654296875)


@pytest.mark.parametrize("each", [0, 5, 30, 160])
@pytest.mark.parametrize("persons_known", [False, True])
def test_equal_disagreements_are_no_evidence(each: int, persons_known: bool) -> None:
    first, second = outcomes(50, each, each, 0)
    found = mcnemar(first, second, [str(i // 3) for i in range(len(first))] if persons_known else None)
    assert found.p_value == 1.0
    assert found.verdict("A", "B").startswith("No evidence of a difference between A and B")


@pytest.mark.parametrize(("first", "second"), [(9, 2), (30, 10), (160, 130)])
def test_an_equal_second_eye_does_not_change_the_p_value(first: int, second: int) -> None:
    one, other = outcomes(100, first, second, 30)
    persons = [f"p{i}" for i in range(len(one))]
    alone, doubled = mcnemar(one, other, persons), mcnemar(np.tile(one, 2), np.tile(other, 2), persons * 2)
    assert doubled.p_value == pytest.approx(alone.p_value, rel=1e-9)
    assert (alone.persons, doubled.persons, doubled.n) == (len(one), len(one), 2 * len(one))
    assert mcnemar(np.tile(one, 2), np.tile(other, 2)).p_value < alone.p_value  # the test at the level of images


def test_with_one_image_per_person_both_levels_agree() -> None:
    first, second = outcomes(100, 23, 41, 20)
    by_person = mcnemar(first, second, [f"p{i}" for i in range(len(first))])
    assert by_person.p_value == pytest.approx(mcnemar(first, second).p_value, rel=1e-9)


def test_the_test_over_persons_agrees_with_scipys_permutations() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 60)) < np.array([[0.8], [0.6]])
    person_ids = rng.integers(0, 14, 60)
    gaps = np.array(
        [(first[person_ids == p].astype(int) - second[person_ids == p]).sum() for p in np.unique(person_ids)]
    )
    expected = permutation_test((gaps,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert mcnemar(first, second, person_ids.astype(str)).p_value == pytest.approx(expected.pvalue)


def test_p_value_is_never_above_one() -> None:
    assert mcnemar(*outcomes(1, 1, 1, 0)).p_value == 1.0


def test_verdict_names_the_better_model_in_any_order() -> None:
    first, second = outcomes(400, 60, 20, 20)
    expected = "A is more accurate than B by 8.0 points (80 of 500 images are classified differently, p < 0.001)."
    assert mcnemar(first, second).verdict("A", "B") == expected
    assert mcnemar(second, first).verdict("B", "A") == expected


def test_verdict_uses_the_corrected_p_value() -> None:
    assert mcnemar(*outcomes(400, 40, 20, 40)).verdict("A", "B", p_value=0.07).startswith("No evidence")


def test_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        mcnemar([True], [True, False])
    with pytest.raises(ValueError, match="at least one"):
        mcnemar([], [])


def test_p_values_as_text() -> None:
    assert (format_p(0.0324), format_p(1e-9), format_p(1.0)) == ("= 0.032", "< 0.001", "= 1.000")


def simulated(accuracies: list[float], n: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((len(accuracies), n)) < np.array(accuracies)[:, None]


def all_pairs(correct: np.ndarray, persons: list[str] | None = None) -> PairedRuns:
    return PairedRuns(correct, persons, list(combinations(range(len(correct)), 2)))


@pytest.mark.parametrize("per_person", [1, 2])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_error_rate_and_power(per_person: int, shared: float) -> None:
    """A quick form of `python -m benchmarks.comparison_error`, which measures 2, 11 and 40 runs 2,000 times each."""
    repetitions = 150
    found = measure(Setting(11, 1200, per_person, shared), repetitions, resamples=199)
    for wrong in (found.wrong, found.wrong_beside_better):
        assert wilson_interval(wrong, repetitions).low <= 0.05
    assert found.power > (0.35 if shared else 0.1)


def test_leader_is_corrected_for_all_pairs() -> None:
    """Among 20 equal runs, the best and the worst differ in a single test, but not after the correction."""
    correct = simulated([0.9] * 20, seed=1)
    order = np.argsort(-correct.mean(axis=1))
    extremes = (int(order[0]), int(order[-1]))
    assert mcnemar(correct[extremes[0]], correct[extremes[1]]).p_value < 0.05
    runs = all_pairs(correct)
    [corrected] = corrected_p_values([runs])
    assert corrected[runs.pairs.index((min(extremes), max(extremes)))] > 0.05


def test_single_pair_keeps_its_p_value() -> None:
    first, second = simulated([0.9, 0.87])
    [[corrected]] = corrected_p_values([all_pairs(np.stack([first, second]))], n_resamples=20_000)
    assert corrected == pytest.approx(mcnemar(first, second).p_value, abs=0.01)


def test_an_equal_second_eye_does_not_change_corrected_p_values() -> None:
    correct = simulated([0.9, 0.87, 0.85, 0.85])
    persons = [f"p{i}" for i in range(correct.shape[1])]
    once, twice = all_pairs(correct, persons), all_pairs(np.tile(correct, 2), persons * 2)
    assert corrected_p_values([once], n_resamples=500) == corrected_p_values([twice], n_resamples=500)


def test_equal_runs_cost_no_power() -> None:
    """Twenty copies of one run count as one rival, while Bonferroni would correct for 210 pairs."""
    better, other = simulated([0.95, 0.9], seed=2)
    runs = all_pairs(np.stack([better, *[other] * 20]))
    [corrected] = corrected_p_values([runs])
    p = mcnemar(better, other).p_value
    assert corrected[:20] == pytest.approx([p] * 20, abs=0.01)
    assert corrected[20:] == [1.0] * 190


def test_more_runs_never_make_a_corrected_p_value_smaller() -> None:
    correct = simulated([0.9, 0.86, 0.9])
    alone = corrected_p_values([all_pairs(correct)], n_resamples=999)[0]
    beside = corrected_p_values([all_pairs(correct), all_pairs(simulated([0.8] * 8, seed=5))], n_resamples=999)[0]
    assert all(b >= a - 0.02 for a, b in zip(alone, beside, strict=True))
    assert beside != alone


def test_results_depend_on_the_seed_and_empty_input_is_valid() -> None:
    runs = all_pairs(simulated([0.9, 0.87, 0.86]))
    assert corrected_p_values([runs], seed=3) == corrected_p_values([runs], seed=3)
    assert corrected_p_values([]) == []
    assert corrected_p_values([PairedRuns(simulated([0.9]), None, [])]) == [[]]
    agreed = np.ones((3, 5), dtype=bool)
    assert corrected_p_values([all_pairs(agreed)], n_resamples=99) == [[1.0, 1.0, 1.0]]
