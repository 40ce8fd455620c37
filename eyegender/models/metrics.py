"""The definition of all metrics, in NumPy, for one set of predictions or for many resamples of it at once.

Predictions for two classes are the probabilities of label 1, shape (N,). Label 1 is the positive class, and a
probability above 0.5 predicts it. A ratio whose denominator is 0, such as the precision without positive predictions,
is 0 as in torchmetrics. The AUROC of a single class is NaN.

Predictions for K classes are the probabilities of each, shape (N, K), and the most likely class is predicted.
Precision, recall, specificity and F1 are means over the classes that occur as labels or predictions; the AUROC is the
mean of each class against the rest, without classes that no image has. The calibration error is that of the predicted
class.
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
# The most images of a class that are compared with all others one by one, and cells of such a table at once.
_SMALL_CLASS, _CELLS = 400, 2**21
# The most pairs of an image of each of two classes that are compared one by one.
_PAIRED_CELLS = 2**18
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
        labels: true class of each image, shape (N,).
        probabilities: predicted probability of label 1, shape (N,), or of each of K classes, shape (N, K).
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
    if probabilities.ndim > 1:
        return _weighted_for_many(wanted, labels, probabilities, weights)
    found: dict[str, Floats] = {}
    if set(wanted) & set(COUNT_METRICS):
        found |= metrics_from_counts(*(weights @ confusion_cells(labels, probabilities).astype(np.float64)).T)
    if "auroc" in wanted:
        found["auroc"] = _auroc(labels, probabilities, weights)
    if "calibration_error" in wanted:
        found["calibration_error"] = _calibration_error(labels, probabilities, weights)
    return {name: found[name] for name in wanted}


def class_metrics(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Floats]:
    """Precision, recall, specificity, F1 and AUROC against the rest of each of K classes, each of shape (K,).

    Raises:
        ValueError: as `check_predictions`.
    """
    truth, scores = check_predictions(labels, probabilities)
    ones = np.ones((1, len(truth)))
    found = metrics_from_counts(*_counts_of_classes(truth, scores, ones))
    areas = [_auroc((truth == k).astype(np.int64), scores[:, k], ones)[0] for k in range(scores.shape[1])]
    return {name: found[name][0] for name in COUNT_METRICS if name != "accuracy"} | {"auroc": np.array(areas)}


def predicted_labels(probabilities: Floats) -> NDArray[np.int64]:
    """The predicted class of each image, shape (N,)."""
    found = probabilities.argmax(axis=1) if probabilities.ndim > 1 else probabilities > THRESHOLD
    return found.astype(np.int64)


def confidences(probabilities: Floats) -> Floats:
    """The probability of the predicted class of each image, shape (N,)."""
    if probabilities.ndim > 1:
        most: Floats = probabilities.max(axis=1)
        return most
    return np.maximum(probabilities, 1 - probabilities)


def of_true_class(labels: NDArray[np.int64], probabilities: Floats) -> Floats:
    """The probability that each image's true class has, shape (N,)."""
    if probabilities.ndim > 1:
        found: Floats = probabilities[np.arange(len(labels)), labels]
        return found
    return np.where(labels == 1, probabilities, 1 - probabilities)


def _weighted_for_many(
    wanted: list[str], labels: NDArray[np.int64], probabilities: Floats, weights: Floats
) -> dict[str, Floats]:
    """`weighted_metrics` for K classes."""
    found: dict[str, Floats] = {}
    if set(wanted) & set(COUNT_METRICS):
        tn, fp, fn, tp = _counts_of_classes(labels, probabilities, weights)
        occurs = (tp + fp + fn > 0).astype(np.float64)
        by_class = metrics_from_counts(tn, fp, fn, tp)
        found |= {name: (values * occurs).sum(axis=1) / occurs.sum(axis=1) for name, values in by_class.items()}
        found["accuracy"] = tp.sum(axis=1) / weights.sum(axis=1)
    if "auroc" in wanted:
        areas = _aurocs_of_classes(labels, probabilities, weights)
        known = ~np.isnan(areas)
        sums, counts = np.where(known, areas, 0.0).sum(axis=0), known.sum(axis=0)
        found["auroc"] = np.divide(sums, counts, out=np.full(len(weights), np.nan), where=counts > 0)
    if "calibration_error" in wanted:
        correct = (predicted_labels(probabilities) == labels).astype(np.int64)
        found["calibration_error"] = _calibration_error(correct, confidences(probabilities), weights)
    return {name: found[name] for name in wanted}


def _counts_of_classes(
    labels: NDArray[np.int64], probabilities: Floats, weights: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """True negatives, false positives, false negatives and true positives of each class against the rest: (R, K)."""
    classes = np.arange(probabilities.shape[1])
    actual, predicted = labels[:, None] == classes, predicted_labels(probabilities)[:, None] == classes
    tp, positive, called = (weights @ mask.astype(np.float64) for mask in (actual & predicted, actual, predicted))
    total = weights.sum(axis=1, keepdims=True)
    return total - positive - called + tp, called - tp, positive - tp, tp


def confusion_cells(labels: NDArray[np.int64], probabilities: Floats) -> NDArray[np.bool_]:
    """Whether each image is a true negative, false positive, false negative or true positive, shape (N, 4)."""
    predicted, actual = probabilities > THRESHOLD, labels == 1
    return np.stack([~predicted & ~actual, predicted & ~actual, ~predicted & actual, predicted & actual], axis=1)


def calibration_bins(probabilities: Floats, bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """The bin of each probability, as in torchmetrics: 0..bins-1 in equal steps of [0, 1), and `bins` for exactly 1."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.searchsorted(edges, probabilities, side="right").astype(np.int64) - 1


def _auroc(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """The share of (label 0, label 1) pairs that are ranked correctly (Mann-Whitney); ties count half.

    The pairs of few images are compared in a matrix product: for the many weightings of a bootstrap that is several
    times as fast as to rank them. Its sums are whole or half numbers, so both ways are exact.
    """
    is_one, is_zero = labels == 1, labels == 0
    if len(weights) > 1 and np.count_nonzero(is_one) * np.count_nonzero(is_zero) <= _PAIRED_CELLS:
        one, zero = probabilities[is_one], probabilities[is_zero][:, None]
        correct = (zero < one) + np.float32(0.5) * (zero == one)
        ones, zeros = weights[:, is_one], weights[:, is_zero]
        found: Floats = ((zeros.astype(np.float32) @ correct) * ones).sum(axis=1)
        return _area(found, ones.sum(axis=1) * zeros.sum(axis=1))
    order = np.argsort(probabilities, kind="stable")
    starts = np.flatnonzero(np.diff(probabilities[order], prepend=-1.0))
    ranked = weights[:, order]
    positive = np.add.reduceat(ranked * (labels[order] == 1), starts, axis=1)
    negative = np.add.reduceat(ranked * (labels[order] == 0), starts, axis=1)
    below: Floats = np.cumsum(negative, axis=1) - 0.5 * negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    ranked_correctly: Floats = (positive * below).sum(axis=1)
    return _area(ranked_correctly, pairs)


def _area(ranked_correctly: Floats, pairs: Floats) -> Floats:
    area: Floats = np.divide(ranked_correctly, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return area


def _aurocs_of_classes(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """`_auroc` of each class against the rest, shape (K, R).

    The images of a small class are compared with all others in a matrix product: with hundreds of classes that is far
    faster than to sort all images for each one. Its sums are whole or half numbers, so both ways are exact.
    """
    n, n_classes = probabilities.shape
    small = np.bincount(labels, minlength=n_classes) <= _SMALL_CLASS
    positive = np.stack([weights[:, labels == k].sum(axis=1) for k in range(n_classes)])
    pairs = positive * (weights.sum(axis=1) - positive)
    ranked_correctly = np.zeros(pairs.shape)
    images = np.argsort(labels, kind="stable")
    images = images[small[labels[images]]]
    single = weights.astype(np.float32)
    rows_at_once = max(1, _CELLS // n)
    for start in range(0, len(images), rows_at_once):
        rows = images[start : start + rows_at_once]
        own = labels[rows]
        others, mine = probabilities[:, own], probabilities[rows, own]
        below = (others < mine) + np.float32(0.5) * (others == mine)
        below[labels[:, None] == own] = 0
        found = (single @ below) * weights[:, rows]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        ranked_correctly[own[starts]] += np.add.reduceat(found, starts, axis=1).T
    areas: Floats = np.divide(ranked_correctly, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    for k in np.flatnonzero(~small).tolist():
        areas[k] = _auroc((labels == k).astype(np.int64), probabilities[:, k], weights)
    return areas


def _calibration_error(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """Expected calibration error: per bin |share of label 1 - mean probability|, weighted by the bin's share."""
    which = calibration_bins(probabilities)
    gaps = np.zeros((len(probabilities), CALIBRATION_BINS + 1))
    gaps[np.arange(len(which)), which] = labels - probabilities
    error: Floats = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
    return error


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def check_predictions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Labels (N,) and probabilities, (N,) of label 1 or (N, K) of each class, as arrays.

    Raises:
        ValueError: there are no images, the lengths differ, a label is not one of the classes, or a probability is NaN
            or outside 0..1.
    """
    truth, scores = _as_arrays(labels, probabilities)
    if np.isnan(scores).any():
        missing = int((~_is_known(scores)).sum())
        raise ValueError(f"probabilities must be numbers, got NaN for {missing} of {len(scores)}")
    return truth, scores


def finite_predictions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats, str]:
    """As `check_predictions`, but without the images whose probability is NaN, so that a diverged run gets figures.

    The third value is a phrase for a figure's title that says how many images were left out; it may be empty.

    Raises:
        ValueError: as `check_predictions`, or every probability is NaN.
    """
    truth, scores = _as_arrays(labels, probabilities)
    known = _is_known(scores)
    if not known.any():
        raise ValueError(f"all {len(scores)} probabilities are NaN: there is nothing to draw")
    missing = len(scores) - int(known.sum())
    return truth[known], scores[known], f", {missing:,} NaN left out" if missing else ""


def _is_known(scores: Floats) -> NDArray[np.bool_]:
    """Whether an image has a prediction, shape (N,)."""
    return np.asarray(~np.isnan(scores).reshape(len(scores), -1).any(axis=1))


def _as_arrays(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape[:1] or scores.ndim > 2:
        raise ValueError(f"labels and probabilities must be of one shape (N,), got {truth.shape} and {scores.shape}")
    if not len(truth):
        raise ValueError("no images: labels and probabilities are empty")
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    if not np.isin(truth, np.arange(n_classes)).all():
        known = "0 or 1" if n_classes == 2 else f"0..{n_classes - 1}"
        raise ValueError(f"labels must be {known}, got {np.unique(truth).tolist()}")
    if (scores < 0).any() or (scores > 1).any():
        raise ValueError(f"probabilities must be in 0..1, got {np.nanmin(scores)}..{np.nanmax(scores)}")
    return truth.astype(np.int64), scores
