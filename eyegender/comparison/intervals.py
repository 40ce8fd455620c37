"""How far a number from one test set can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binomtest

from eyegender.comparison.predictions import checked
from eyegender.models.binary_metrics import METRICS, weighted_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

_CHUNK = 250  # resamples per block: 250 x 10,000 pictures are 20 MB


class Interval(NamedTuple):
    """A value with the interval around it; NaN where it is undefined."""

    value: float
    low: float
    high: float


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for k successes of n independent trials.

    It stays inside 0..1 and keeps its coverage near 0 and 1, where the textbook interval does not. Source: E. B.
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212. Pictures of one person are not independent: see `bootstrap_interval`.

    Raises:
        ValueError: n < 1, k outside 0..n, or confidence outside (0, 1).
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k must be 0..n with n at least 1, got k={k}, n={n}")
    _check_confidence(confidence)
    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return Interval(k / n, float(interval.low), float(interval.high))


def share_interval(hits: ArrayLike, persons: Sequence[str] | NDArray[np.str_] | None = None) -> Interval:
    """The share of N pictures that are hits, with its 95% interval over persons; Wilson's where nobody knows them.

    Where all or none are hits a bootstrap would have no width; then each person counts as one trial.

    Args:
        hits: shape (N,).
        persons: as in `bootstrap_interval`.

    Raises:
        ValueError: no pictures, or not one person per picture.
    """
    found = np.asarray(hits, dtype=bool)
    if persons is None:
        return wilson_interval(int(found.sum()), len(found))
    if found.all() or not found.any():
        people = len(np.unique(np.asarray(persons)))
        return wilson_interval(people if found.any() else 0, people)
    [interval] = bootstrap_differences(found[None], np.zeros_like(found)[None], persons)
    return interval


def bootstrap_interval(
    metric: str,
    labels: ArrayLike,
    probabilities: ArrayLike,
    persons: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap over persons: whole persons are drawn with replacement, with all of their pictures.

    The two eyes of one person are right or wrong together, so drawing single pictures would make the interval too
    narrow. Limits are percentiles of the resampled values. BCa would add a jackknife over persons for a correction
    that is small at hundreds of persons. Sources: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993),
    chapter 13; for clusters, C. A. Field, A. H. Welsh, J. R. Stat. Soc. B 69 (2007) 369-390.

    Resamples where the metric is undefined (one class only) are left out. The calibration error of a resample is on
    average larger than the sample's, because resampling adds noise to every bin: its limits are shifted back by that
    bias, or they could lie above the value itself.

    Args:
        metric: one of `metrics.METRICS`.
        labels: 0/1, shape (N,).
        probabilities: of label 1, shape (N,).
        persons: whose picture each is, N of them; None where nobody knows, then every picture counts as a person.
        n_resamples: 100 or more.
        seed: of the resampling; the same seed gives the same interval, and the same persons for every metric.
        confidence: the interval's coverage, in (0, 1).

    Raises:
        ValueError: an argument is out of its range.
    """
    every = bootstrap_intervals(
        labels, probabilities, persons, metrics=(metric,), n_resamples=n_resamples, seed=seed, confidence=confidence
    )
    return every[metric]


def bootstrap_intervals(
    labels: ArrayLike,
    probabilities: ArrayLike,
    persons: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """`bootstrap_interval` for several metrics from one and the same set of resamples."""
    truth, scores = checked(labels, probabilities)
    owners = person_numbers(persons, len(truth))
    parts = [
        weighted_metrics(metrics, truth, scores, times[:, owners])
        for times in _resamples(owners, n_resamples, seed, confidence)
    ]
    measured = weighted_metrics(metrics, truth, scores, np.ones((1, len(truth))))
    tail = (1.0 - confidence) / 2.0
    intervals = {}
    for name in metrics:
        values = np.concatenate([part[name] for part in parts])
        values = values[~np.isnan(values)]
        value = float(measured[name][0])
        if name == "calibration_error":
            values = np.clip(values - (values.mean() - value), 0.0, 1.0)
        low, high = np.quantile(values, (tail, 1.0 - tail)) if len(values) else (np.nan, np.nan)
        intervals[name] = Interval(value, float(low), float(high))
    return intervals


def bootstrap_differences(
    first_right: ArrayLike,
    second_right: ArrayLike,
    persons: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Accuracy of each first model minus that of its second one on the same N pictures, resampling persons.

    Args:
        first_right: whether the first model of each of P pairs is right, shape (P, N).
        second_right: the same of the second ones, shape (P, N).
        persons: as in `bootstrap_interval`, for all pairs.
        n_resamples: as there.
        seed: as there.
        confidence: as there.

    Raises:
        ValueError: an argument is out of its range, or the shapes differ.
    """
    first, second = np.asarray(first_right, dtype=np.float64), np.asarray(second_right, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise ValueError(
            f"both models need the same pictures (P, N), at least one, got {first.shape} and {second.shape}"
        )
    owners = person_numbers(persons, first.shape[1])
    people = int(owners.max()) + 1
    # Only sums per person matter, so whole persons are weighted and not their pictures.
    gaps = np.stack([np.bincount(owners, weights=gap, minlength=people) for gap in first - second], axis=1)
    sizes = np.bincount(owners, minlength=people).astype(np.float64)
    blocks = _resamples(owners, n_resamples, seed, confidence)
    values = np.concatenate([(times @ gaps) / (times @ sizes)[:, None] for times in blocks])
    tail = (1.0 - confidence) / 2.0
    lows, highs = np.quantile(values, (tail, 1.0 - tail), axis=0)
    means = (first - second).mean(axis=1)
    return [Interval(float(mean), float(low), float(high)) for mean, low, high in zip(means, lows, highs, strict=True)]


def _resamples(
    owners: NDArray[np.int64], n_resamples: int, seed: int, confidence: float
) -> Iterator[NDArray[np.float64]]:
    """How often each person is drawn, in blocks of shape (R, persons).

    Raises ValueError for arguments out of range.
    """
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be 100 or more, got {n_resamples}")
    _check_confidence(confidence)
    rng = np.random.default_rng(seed)
    people = int(owners.max()) + 1
    for start in range(0, n_resamples, _CHUNK):
        count = min(_CHUNK, n_resamples - start)
        drawn = rng.integers(0, people, size=(count, people)) + people * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * people).reshape(count, people).astype(np.float64)


def person_numbers(persons: Sequence[str] | NDArray[np.str_] | None, n: int) -> NDArray[np.int64]:
    """A number for each picture, equal where the person is; every picture's own where nobody knows.

    Raises:
        ValueError: not one person per picture.
    """
    if persons is None:
        return np.arange(n)
    if len(persons) != n:
        raise ValueError(f"persons must name one person per picture, got {len(persons)} for {n} pictures")
    return np.unique(np.asarray(persons), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
