from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from eyegender.comparison.significance import format_p, mcnemar


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.repeat([(1, 1), (1, 0), (0, 1), (0, 0)], [both, first, second, neither], axis=0).astype(bool)
    return cells[:, 0], cells[:, 1]


@pytest.mark.parametrize(("first", "second"), [(9, 2), (25, 0), (40, 20), (161, 160), (900, 1000)])
def test_every_number_of_disagreements_gets_the_exact_test(first: int, second: int) -> None:
    found = mcnemar(*outcomes(400, first, second, 40))
    assert (found.n, found.only_first, found.only_second) == (440 + first + second, first, second)
    assert found.p_value == pytest.approx(binomtest(first, first + second).pvalue)
    assert found.difference == pytest.approx((first - second) / found.n)


def test_a_p_value_worked_by_hand() -> None:
    # 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048.
    assert mcnemar(*outcomes(80, 9, 2, 9)).p_value == pytest.approx(0.0654296875)


@pytest.mark.parametrize("each", [0, 5, 30, 160])
@pytest.mark.parametrize("persons_known", [False, True])
def test_equal_disagreements_are_no_evidence_at_all(each: int, persons_known: bool) -> None:
    first, second = outcomes(50, each, each, 0)
    found = mcnemar(first, second, [str(i // 3) for i in range(len(first))] if persons_known else None)
    assert found.p_value == 1.0
    assert found.verdict("A", "B").startswith("No evidence of a difference between A and B")


@pytest.mark.parametrize(("first", "second"), [(9, 2), (30, 10), (160, 130)])
def test_a_second_eye_that_says_the_same_changes_no_p_value(first: int, second: int) -> None:
    one, other = outcomes(100, first, second, 30)
    persons = [f"p{i}" for i in range(len(one))]
    alone, doubled = mcnemar(one, other, persons), mcnemar(np.tile(one, 2), np.tile(other, 2), persons * 2)
    assert doubled.p_value == pytest.approx(alone.p_value, rel=1e-9)
    assert (alone.persons, doubled.persons, doubled.n) == (len(one), len(one), 2 * len(one))
    assert mcnemar(np.tile(one, 2), np.tile(other, 2)).p_value < alone.p_value  # what counting pictures says


def test_one_picture_per_person_is_the_test_over_pictures() -> None:
    first, second = outcomes(100, 23, 41, 20)
    by_person = mcnemar(first, second, [f"p{i}" for i in range(len(first))])
    assert by_person.p_value == pytest.approx(mcnemar(first, second).p_value, rel=1e-9)


def test_persons_agree_with_scipys_permutations() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 60)) < np.array([[0.8], [0.6]])
    owners = rng.integers(0, 14, 60)
    gaps = np.array([(first[owners == p].astype(int) - second[owners == p]).sum() for p in np.unique(owners)])
    expected = permutation_test((gaps,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert mcnemar(first, second, owners.astype(str)).p_value == pytest.approx(expected.pvalue)


def test_never_above_one() -> None:
    assert mcnemar(*outcomes(1, 1, 1, 0)).p_value == 1.0


def test_the_verdict_names_the_better_one_whatever_the_order() -> None:
    first, second = outcomes(400, 60, 20, 20)
    expected = "A is more accurate than B by 8.0 points (80 of 500 pictures are told differently, p < 0.001)."
    assert mcnemar(first, second).verdict("A", "B") == expected
    assert mcnemar(second, first).verdict("B", "A") == expected


def test_the_verdict_follows_the_corrected_p_value() -> None:
    assert mcnemar(*outcomes(400, 40, 20, 40)).verdict("A", "B", p_value=0.07).startswith("No evidence")


def test_other_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        mcnemar([True], [True, False])
    with pytest.raises(ValueError, match="at least one"):
        mcnemar([], [])


def test_p_values_are_written_plainly() -> None:
    assert (format_p(0.0324), format_p(1e-9), format_p(1.0)) == ("= 0.032", "< 0.001", "= 1.000")
