from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from eyegender.report.mcnemar import format_p, holm, mcnemar


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.repeat([(1, 1), (1, 0), (0, 1), (0, 0)], [both, first, second, neither], axis=0).astype(bool)
    return cells[:, 0], cells[:, 1]


def test_few_disagreements_use_the_exact_form() -> None:
    found = mcnemar(*outcomes(80, 9, 2, 9))
    assert (found.n, found.only_first, found.only_second, found.exact) == (100, 9, 2, True)
    assert found.p_value == pytest.approx(binomtest(2, 11, 0.5).pvalue)
    # By hand: 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048.
    assert found.p_value == pytest.approx(0.0654296875)


def test_many_disagreements_use_chi_square_with_continuity() -> None:
    found = mcnemar(*outcomes(400, 40, 20, 40))
    assert not found.exact
    assert found.p_value == pytest.approx(chi2.sf(19**2 / 60, 1))
    assert found.p_value == pytest.approx(binomtest(20, 60, 0.5).pvalue, abs=0.003)
    assert found.difference == pytest.approx(0.04)


@pytest.mark.parametrize(("discordant", "exact"), [(24, True), (25, False)])
def test_the_form_changes_at_25(discordant: int, exact: bool) -> None:
    assert mcnemar(*outcomes(10, discordant, 0, 0)).exact is exact


@pytest.mark.parametrize("each", [0, 5, 30])
def test_equal_disagreements_are_no_evidence(each: int) -> None:
    found = mcnemar(*outcomes(50, each, each, 0))
    assert found.p_value > 0.85
    assert found.verdict("A", "B").startswith("No evidence of a difference between A and B")


def test_never_above_one() -> None:
    assert mcnemar(*outcomes(1, 1, 1, 0)).p_value == 1.0


def test_the_verdict_names_the_better_one_whatever_the_order() -> None:
    first, second = outcomes(400, 60, 20, 20)
    expected = "A is more accurate than B by 8.0 points (80 of 500 pictures are told differently, p < 0.001)."
    assert mcnemar(first, second).verdict("A", "B") == expected
    assert mcnemar(second, first).verdict("B", "A") == expected


def test_the_verdict_follows_the_corrected_p_value() -> None:
    assert mcnemar(*outcomes(400, 40, 20, 40)).verdict("A", "B", p_value=0.07).startswith("No evidence")


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_other_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        mcnemar([True], [True, False])
    with pytest.raises(ValueError, match="at least one"):
        mcnemar([], [])


def test_p_values_are_written_plainly() -> None:
    assert (format_p(0.0324), format_p(1e-9), format_p(1.0)) == ("= 0.032", "< 0.001", "= 1.000")
