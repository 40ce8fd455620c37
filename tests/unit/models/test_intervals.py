from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from eyegender.models.intervals import (
    bootstrap_differences,
    bootstrap_interval,
    bootstrap_intervals,
    share_interval,
    standard_error,
    wilson_interval,
)
from eyegender.models.metrics import METRICS


def pairs(n_persons: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two images per person with the same label and the same probability, so errors come in pairs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n_persons)
    scores = np.clip(rng.normal(0.3 + 0.4 * labels, 0.2), 0, 1)
    return np.repeat(labels, 2), np.repeat(scores, 2), [f"p{i // 2}" for i in range(2 * n_persons)]


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (517, 536), (1, 3)])
def test_wilson_agrees_with_scipy(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    found = wilson_interval(k, n)
    assert found.value == k / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_the_papers_test_set() -> None:
    """About 536 images and 91.82%: 2.6 points downwards, 2.0 upwards."""
    found = wilson_interval(492, 536)
    assert (found.low, found.high) == pytest.approx((0.8915, 0.9382), abs=5e-4)


@pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_invalid_counts(k: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        wilson_interval(k, n, confidence)


def test_share_interval_is_over_persons_if_they_are_known() -> None:
    hits = np.random.default_rng(0).random(200) < 0.2
    persons = [f"p{i}" for i in range(200)]
    once, twice = share_interval(hits, persons), share_interval(np.tile(hits, 2), persons * 2)
    assert once == pytest.approx(twice)
    assert (once.low, once.high) == pytest.approx(wilson_interval(int(hits.sum()), 200)[1:], abs=0.02)
    assert share_interval(hits) == wilson_interval(int(hits.sum()), 200)


@pytest.mark.parametrize("hit", [False, True])
def test_share_interval_of_all_or_none_depends_on_the_number_of_persons(hit: bool) -> None:
    assert share_interval([hit] * 40, [f"p{i // 4}" for i in range(40)]) == wilson_interval(10 * hit, 10)


def test_bootstrap_agrees_with_scipy_on_single_images() -> None:
    rng = np.random.default_rng(4)
    labels, scores = rng.integers(0, 2, 400), rng.random(400)
    correct = (scores > 0.5) == labels
    expected = bootstrap((correct,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    found = bootstrap_interval("accuracy", labels, scores)
    assert found.value == correct.mean()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_percentiles_are_close_to_bca_over_persons() -> None:
    """As the docstring says, with hundreds of persons the difference is a fraction of the interval."""
    labels, scores, persons = pairs(400)
    per_person = ((scores > 0.5) == labels)[::2]
    expected = bootstrap((per_person,), np.mean, n_resamples=4000, method="BCa", rng=0).confidence_interval
    found = bootstrap_interval("accuracy", labels, scores, persons, n_resamples=4000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.2 * (found.high - found.low))


def test_intervals_over_persons_are_wider_if_errors_come_in_pairs() -> None:
    labels, scores, persons = pairs(200)
    by_person = bootstrap_interval("accuracy", labels, scores, persons)
    by_image = bootstrap_interval("accuracy", labels, scores)
    assert by_person.value == by_image.value
    assert (by_person.high - by_person.low) / (by_image.high - by_image.low) == pytest.approx(2**0.5, rel=0.15)


def test_result_depends_on_the_seed() -> None:
    labels, scores, persons = pairs(60)
    assert bootstrap_interval("auroc", labels, scores, persons, seed=3) == bootstrap_interval(
        "auroc", labels, scores, persons, seed=3
    )
    assert bootstrap_interval("auroc", labels, scores, persons, seed=3) != bootstrap_interval(
        "auroc", labels, scores, persons, seed=4
    )


def test_every_interval_contains_its_value() -> None:
    labels, scores, persons = pairs(150)
    found = bootstrap_intervals(labels, scores, persons)
    assert set(found) == set(METRICS)
    for name, interval in found.items():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1, name


def test_single_class_has_an_accuracy_but_no_auroc() -> None:
    found = bootstrap_intervals([1, 1, 1], [0.2, 0.7, 0.9])
    assert np.isnan(found["auroc"]).all()
    assert found["accuracy"].value == pytest.approx(2 / 3)


def test_resamples_with_a_single_class_are_ignored() -> None:
    found = bootstrap_interval("auroc", [0, 1], [0.2, 0.8], n_resamples=200)
    assert found == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_resamples": 5}, "100 or more, got 5"),
        ({"confidence": 1.5}, "between 0 and 1"),
        ({"persons": ["a"]}, "1 for 4"),
    ],
)
def test_refuses_arguments_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval("accuracy", [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3], **options)  # type: ignore[arg-type]


def test_differences_of_accuracy_are_independent_of_other_pairs() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((3, 200)) < np.array([[0.9], [0.8], [0.8]])
    persons = [f"p{i // 2}" for i in range(200)]
    together = bootstrap_differences(correct[[0, 1]], correct[[1, 2]], persons)
    (alone,) = bootstrap_differences(correct[[1]], correct[[2]], persons)
    assert together[0].value == pytest.approx(correct[0].mean() - correct[1].mean())
    assert together[1] == pytest.approx(alone)
    assert together[0].low < together[0].value < together[0].high


def test_difference_agrees_with_scipy_on_persons() -> None:
    rng = np.random.default_rng(1)
    first, second = np.repeat(rng.random((2, 300)) < 0.85, 2, axis=1)
    expected = bootstrap(((first.astype(float) - second)[::2],), np.mean, method="percentile", n_resamples=4000, rng=0)
    persons = [f"p{i // 2}" for i in range(600)]
    (found,) = bootstrap_differences([first], [second], persons, n_resamples=4000)
    low, high = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.008)


def test_difference_requires_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        bootstrap_differences([[True]], [[True, False]])


def test_the_standard_error_counts_persons_and_not_images() -> None:
    rng = np.random.default_rng(0)
    of_person = rng.random(400) < 0.9
    hits, persons = np.repeat(of_person, 3), np.repeat([f"p{i}" for i in range(400)], 3)
    expected = of_person.std(ddof=1) / np.sqrt(400)
    assert standard_error(hits, persons) == pytest.approx(expected)
    assert standard_error(hits) == pytest.approx(expected / np.sqrt(3), rel=0.01)
    interval = share_interval(hits, persons)
    assert (interval.high - interval.low) / 3.92 == pytest.approx(expected, rel=0.1)


def test_the_standard_error_of_one_person_is_unknown() -> None:
    assert np.isnan(standard_error([1, 0], ["a", "a"]))
    with pytest.raises(ValueError, match="one person per image"):
        standard_error([1, 0], ["a"])
