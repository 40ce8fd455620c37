"""Confidence intervals of the test metrics: Wilson's for a share, a bootstrap over persons for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binomtest

from eyegender.models.metrics import METRICS, check_predictions, weighted_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

_CHUNK = 250  # resamples per block: 250 x 10,000 images are 20 MB


class Interval(NamedTuple):
    """A value and the limits of its confidence interval; NaN where the value is undefined."""

    value: float
    low: float
    high: float


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for k successes in n independent trials.

    It stays inside 0..1 and keeps its coverage near 0 and 1, where the textbook interval does not. Source: E. B.
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212. The images of one person are not independent: use
    `bootstrap_interval` for them.

    Example:
        >>> low, high = wilson_interval(90, 100)[1:]
        >>> round(low, 3), round(high, 3)
        (0.826, 0.945)

    Raises:
        ValueError: n is below 1, k is outside 0..n, or the confidence is outside (0, 1).
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k must be 0..n with n at least 1, got k={k}, n={n}")
    _check_confidence(confidence)
    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return Interval(k / n, float(interval.low), float(interval.high))


def share_interval(hits: ArrayLike, persons: Sequence[str] | NDArray[np.str_] | None = None) -> Interval:
    """The share of hits among N images, with its 95% interval over persons, or Wilson's if the persons are unknown.

    If all images or none are hits, a bootstrap would give an interval of width 0. Wilson's interval is used then, with
    one trial per person.

    Args:
        hits: whether each image is a hit, shape (N,).
        persons: as in `bootstrap_interval`.

    Raises:
        ValueError: there are no images, or the number of persons is not N.
    """
    is_hit = np.asarray(hits, dtype=bool)
    if persons is None:
        return wilson_interval(int(is_hit.sum()), len(is_hit))
    if is_hit.all() or not is_hit.any():
        n_persons = len(np.unique(np.asarray(persons)))
        return wilson_interval(n_persons if is_hit.any() else 0, n_persons)
    [interval] = bootstrap_differences(is_hit[None], np.zeros_like(is_hit)[None], persons)
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
    """Percentile bootstrap over persons: persons are resampled with replacement, each with all of their images.

    A model tends to be right or wrong on both eyes of a person, so resampling single images would make the interval too
    narrow. The limits are percentiles of the resampled values. BCa would add a jackknife over persons for a correction
    that is small at hundreds of persons. Sources: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993),
    chapter 13; for clusters, C. A. Field, A. H. Welsh, J. R. Stat. Soc. B 69 (2007) 369-390.

    Resamples in which the metric is undefined (only one class) are ignored. The calibration error of a resample is on
    average larger than that of the sample, because resampling adds noise to every bin. Its limits are shifted back by
    that bias; otherwise they could lie above the value itself.

    Args:
        metric: one of `metrics.METRICS`.
        labels: true class of each image, 0 or 1, shape (N,).
        probabilities: predicted probability of label 1, shape (N,).
        persons: person on each of the N images; None if unknown, so that every image counts as one person.
        n_resamples: number of resamples, 100 or more.
        seed: seed of the resampling. Equal seeds resample the same persons, for every metric.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        ValueError: an argument is out of its range.
    """
    intervals = bootstrap_intervals(
        labels, probabilities, persons, metrics=(metric,), n_resamples=n_resamples, seed=seed, confidence=confidence
    )
    return intervals[metric]


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
    """`bootstrap_interval` for several metrics, from the same resamples."""
    truth, scores = check_predictions(labels, probabilities)
    person_ids = person_numbers(persons, len(truth))
    blocks = [
        weighted_metrics(metrics, truth, scores, counts[:, person_ids])
        for counts in _resamples(person_ids, n_resamples, seed, confidence)
    ]
    measured = weighted_metrics(metrics, truth, scores, np.ones((1, len(truth))))
    tail = (1.0 - confidence) / 2.0
    intervals = {}
    for name in metrics:
        values = np.concatenate([block[name] for block in blocks])
        values = values[~np.isnan(values)]
        value = float(measured[name][0])
        if name == "calibration_error":
            values = np.clip(values - (values.mean() - value), 0.0, 1.0)
        low, high = np.quantile(values, (tail, 1.0 - tail)) if len(values) else (np.nan, np.nan)
        intervals[name] = Interval(value, float(low), float(high))
    return intervals


def bootstrap_differences(
    first_correct: ArrayLike,
    second_correct: ArrayLike,
    persons: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Difference in accuracy of P pairs of models on the same N images, with intervals from resampling persons.

    Args:
        first_correct: whether the first model of each pair classifies each image correctly, shape (P, N).
        second_correct: the same for the second model of each pair, shape (P, N).
        persons: as in `bootstrap_interval`; the same for all pairs.
        n_resamples: as in `bootstrap_interval`.
        seed: as in `bootstrap_interval`.
        confidence: as in `bootstrap_interval`.

    Raises:
        ValueError: an argument is out of its range, or the shapes differ.
    """
    first, second = np.asarray(first_correct, dtype=np.float64), np.asarray(second_correct, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise ValueError(f"both models need the same images (P, N), at least one, got {first.shape} and {second.shape}")
    person_ids = person_numbers(persons, first.shape[1])
    n_persons = int(person_ids.max()) + 1
    # Only the sums per person matter, so persons are weighted instead of images.
    sums = np.stack([np.bincount(person_ids, weights=row, minlength=n_persons) for row in first - second], axis=1)
    sizes = np.bincount(person_ids, minlength=n_persons).astype(np.float64)
    blocks = _resamples(person_ids, n_resamples, seed, confidence)
    values = np.concatenate([(counts @ sums) / (counts @ sizes)[:, None] for counts in blocks])
    tail = (1.0 - confidence) / 2.0
    lows, highs = np.quantile(values, (tail, 1.0 - tail), axis=0)
    means = (first - second).mean(axis=1)
    return [Interval(float(mean), float(low), float(high)) for mean, low, high in zip(means, lows, highs, strict=True)]


def standard_error(values: ArrayLike, persons: Sequence[str] | NDArray[np.str_] | None = None) -> float:
    """Standard error of the mean of N values, whose persons are independent, but not the images of one person.

    Source: the cluster-robust variance of a ratio (W. G. Cochran, Sampling Techniques, 1977, chapter 9A).

    Args:
        values: one value per image, shape (N,), such as whether it is classified correctly.
        persons: as in `bootstrap_interval`.

    Returns:
        The standard error in the unit of the values; NaN with fewer than two persons.

    Raises:
        ValueError: the number of persons is not N.
    """
    each = np.asarray(values, dtype=np.float64)
    numbers = person_numbers(persons, len(each))
    n_persons = len(np.unique(numbers))
    if n_persons < 2:
        return float("nan")
    residuals = np.bincount(numbers, weights=each - each.mean())
    return float(np.sqrt((residuals**2).sum() * n_persons / (n_persons - 1)) / len(each))


def person_numbers(persons: Sequence[str] | NDArray[np.str_] | None, n: int) -> NDArray[np.int64]:
    """Number the persons on n images from 0; if the persons are unknown, every image gets its own number.

    Raises:
        ValueError: the number of persons is not n.
    """
    if persons is None:
        return np.arange(n)
    if len(persons) != n:
        raise ValueError(f"persons must name one person per image, got {len(persons)} for {n} images")
    return np.unique(np.asarray(persons), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _resamples(
    person_ids: NDArray[np.int64], n_resamples: int, seed: int, confidence: float
) -> Iterator[NDArray[np.float64]]:
    """How often each resample contains each person, in blocks of shape (R, persons)."""
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be 100 or more, got {n_resamples}")
    _check_confidence(confidence)
    rng = np.random.default_rng(seed)
    n_persons = int(person_ids.max()) + 1
    for start in range(0, n_resamples, _CHUNK):
        count = min(_CHUNK, n_resamples - start)
        sampled = rng.integers(0, n_persons, size=(count, n_persons)) + n_persons * np.arange(count)[:, None]
        yield np.bincount(sampled.ravel(), minlength=count * n_persons).reshape(count, n_persons).astype(np.float64)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
