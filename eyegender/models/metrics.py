"""The definition of all metrics, in NumPy, for one set of predictions or for many resamples of it at once.

Label 1 (male) is the positive class, and a probability above 0.5 predicts it. A ratio whose denominator is 0, such as
the precision without positive predictions, is 0 as in torchmetrics. The AUROC of a single class is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

THRESHOLD = 0.5
CALIBRATION_BINS = 15
COUNT_METRICS = ("accuracy", "precision", "recall", "specificity", "f1")
METRICS = (*COUNT_METRICS, "auroc", "calibration_error")


def metrics_from_counts(tn: ArrayLike, fp: ArrayLike, fn: ArrayLike, tp: ArrayLike) -> dict[str, Floats]:
    """Accuracy, precision, recall, specificity and F1 of one confusion matrix or, elementwise, of many.

    Example:
        >>> float(metrics_from_counts(tn=50, fp=10, fn=5, tp=35)["accuracy"])
        0.85
    """
    tn, fp, fn, tp = (np.asarray(count, dtype=np.float64) for count in (tn, fp, fn, tp))
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def metrics_from_predictions(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """All of METRICS, in 0..1; raises ValueError as `check_predictions`."""
    truth, scores = check_predictions(labels, probabilities)
    ones = np.ones((1, len(truth)))
    return {name: float(value[0]) for name, value in weighted_metrics(METRICS, truth, scores, ones).items()}


def weighted_metrics(
    names: Iterable[str], labels: NDArray[np.int64], probabilities: Floats, weights: Floats
) -> dict[str, Floats]:
    """Some metrics of N images under each of R weightings.

    Args:
        names: names of METRICS.
        labels: true class of each image, 0 or 1, shape (N,).
        probabilities: predicted probability of label 1, shape (N,).
        weights: how often each image counts, shape (R, N).

    Returns:
        The values of each metric, shape (R,).

    Raises:
        ValueError: there is no metric of that name.
    """
    wanted = list(names)
    unknown = sorted(set(wanted) - set(METRICS))
    if unknown:
        raise ValueError(f"unknown metric '{unknown[0]}'; known: {', '.join(METRICS)}")
    found: dict[str, Floats] = {}
    if set(wanted) & set(COUNT_METRICS):
        found |= metrics_from_counts(*(weights @ confusion_cells(labels, probabilities).astype(np.float64)).T)
    if "auroc" in wanted:
        found["auroc"] = _auroc(labels, probabilities, weights)
    if "calibration_error" in wanted:
        found["calibration_error"] = _calibration_error(labels, probabilities, weights)
    return {name: found[name] for name in wanted}


def confusion_cells(labels: NDArray[np.int64], probabilities: Floats) -> NDArray[np.bool_]:
    """Whether each image is a true negative, false positive, false negative or true positive, shape (N, 4)."""
    predicted, actual = probabilities > THRESHOLD, labels == 1
    return np.stack([~predicted & ~actual, predicted & ~actual, ~predicted & actual, predicted & actual], axis=1)


def calibration_bins(probabilities: Floats, bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """The bin of each probability, as in torchmetrics: 0..bins-1 in equal steps of [0, 1), and `bins` for exactly 1."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.searchsorted(edges, probabilities, side="right").astype(np.int64) - 1


def _auroc(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """The share of (female, male) pairs that are ranked correctly (Mann-Whitney); ties count half."""
    order = np.argsort(probabilities, kind="stable")
    starts = np.flatnonzero(np.diff(probabilities[order], prepend=-1.0))
    ranked = weights[:, order]
    positive = np.add.reduceat(ranked * (labels[order] == 1), starts, axis=1)
    negative = np.add.reduceat(ranked * (labels[order] == 0), starts, axis=1)
    below: Floats = np.cumsum(negative, axis=1) - 0.5 * negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    ranked_correctly: Floats = (positive * below).sum(axis=1)
    area: Floats = np.divide(ranked_correctly, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return area


def _calibration_error(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """Expected calibration error: per bin |share of males - mean probability|, weighted by the bin's share."""
    which = calibration_bins(probabilities)
    gaps = np.zeros((len(probabilities), CALIBRATION_BINS + 1))
    gaps[np.arange(len(which)), which] = labels - probabilities
    error: Floats = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
    return error


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def check_predictions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Labels 0/1 and probabilities of label 1 as arrays of shape (N,).

    Raises:
        ValueError: there are no images, the lengths differ, a label is neither 0 nor 1, or a probability is NaN or
            outside 0..1.
    """
    truth, scores = _as_arrays(labels, probabilities)
    if np.isnan(scores).any():
        raise ValueError(f"probabilities must be numbers, got NaN for {int(np.isnan(scores).sum())} of {len(scores)}")
    return truth, scores


def finite_predictions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats, str]:
    """As `check_predictions`, but without the images whose probability is NaN, so that a diverged run gets figures.

    The third value is a phrase for a figure's title that says how many images were left out; it may be empty.

    Raises:
        ValueError: as `check_predictions`, or every probability is NaN.
    """
    truth, scores = _as_arrays(labels, probabilities)
    known = ~np.isnan(scores)
    if not known.any():
        raise ValueError(f"all {len(scores)} probabilities are NaN: there is nothing to draw")
    missing = len(scores) - int(known.sum())
    return truth[known], scores[known], f", {missing:,} NaN left out" if missing else ""


def _as_arrays(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape:
        raise ValueError(f"labels and probabilities must be of one shape (N,), got {truth.shape} and {scores.shape}")
    if not len(truth):
        raise ValueError("no images: labels and probabilities are empty")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(truth).tolist()}")
    if (scores < 0).any() or (scores > 1).any():
        raise ValueError(f"probabilities must be in 0..1, got {np.nanmin(scores)}..{np.nanmax(scores)}")
    return truth.astype(np.int64), scores
