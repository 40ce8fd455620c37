"""How far a number from one test set can be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtri

from eyegender.report.metrics import METRICS, weighted_metric
from eyegender.report.predictions import checked

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
    z = _normal_quantile(confidence)
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


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
    owners = _person_numbers(persons, len(truth))
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    for weights in _resamples(owners, n_resamples, seed, confidence):
        for name in metrics:
            found[name].append(weighted_metric(name, truth, scores, weights))

    once = np.ones((1, len(truth)))
    tail = (1.0 - confidence) / 2.0
    intervals = {}
    for name in metrics:
        values = np.concatenate(found[name])
        values = values[~np.isnan(values)]
        value = float(weighted_metric(name, truth, scores, once)[0])
        if name == "calibration_error":
            values = np.clip(values - (values.mean() - value), 0.0, 1.0)
        low, high = np.quantile(values, (tail, 1.0 - tail)) if len(values) else (np.nan, np.nan)
        intervals[name] = Interval(value, float(low), float(high))
    return intervals


def bootstrap_difference(
    first_right: ArrayLike,
    second_right: ArrayLike,
    persons: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Accuracy of the first model minus accuracy of the second on the same N pictures, resampling persons.

    Raises:
        ValueError: an argument is out of its range, or the models were not right or wrong on the same pictures.
    """
    first, second = np.asarray(first_right, dtype=np.float64), np.asarray(second_right, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"both models need the same pictures, at least one, got {first.shape} and {second.shape}")
    gap = first - second
    owners = _person_numbers(persons, len(gap))
    tail = (1.0 - confidence) / 2.0
    values = np.concatenate([(w @ gap) / w.sum(axis=1) for w in _resamples(owners, n_resamples, seed, confidence)])
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return Interval(float(gap.mean()), float(low), float(high))


def _resamples(
    owners: NDArray[np.int64], n_resamples: int, seed: int, confidence: float
) -> Iterator[NDArray[np.float64]]:
    """How often each picture is drawn, in blocks of shape (R, N): as often as its person.

    Raises ValueError for arguments out of range.
    """
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be 100 or more, got {n_resamples}")
    _normal_quantile(confidence)
    rng = np.random.default_rng(seed)
    people = int(owners.max()) + 1
    for start in range(0, n_resamples, _CHUNK):
        count = min(_CHUNK, n_resamples - start)
        drawn = rng.integers(0, people, size=(count, people)) + people * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * people).reshape(count, people)
        yield times[:, owners].astype(np.float64)


def _person_numbers(persons: Sequence[str] | NDArray[np.str_] | None, n: int) -> NDArray[np.int64]:
    if persons is None:
        return np.arange(n)
    if len(persons) != n:
        raise ValueError(f"persons must name one person per picture, got {len(persons)} for {n} pictures")
    return np.unique(np.asarray(persons), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _normal_quantile(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return float(ndtri(0.5 + confidence / 2.0))
