"""Checks the two arrays that most figures and intervals start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels 0/1 and probabilities of label 1, each as an array of shape (N,).

    Raises:
        ValueError: no pictures, unequal lengths, labels other than 0 and 1, probabilities that are NaN or outside 0..1.
    """
    truth, scores = _shaped(labels, probabilities)
    if np.isnan(scores).any():
        raise ValueError(f"probabilities must be numbers, got NaN for {int(np.isnan(scores).sum())} of {len(scores)}")
    return truth, scores


def finite(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """As `checked`, but pictures without a probability are left out, and a phrase for the title says how many.

    A diverged run still gets its figures. Raises ValueError when no probability is left.
    """
    truth, scores = _shaped(labels, probabilities)
    known = ~np.isnan(scores)
    if not known.any():
        raise ValueError(f"all {len(scores)} probabilities are NaN: there is nothing to draw")
    missing = len(scores) - int(known.sum())
    return truth[known], scores[known], f", {missing:,} NaN left out" if missing else ""


def _shaped(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape:
        raise ValueError(f"labels and probabilities must be of one shape (N,), got {truth.shape} and {scores.shape}")
    if not len(truth):
        raise ValueError("no pictures: labels and probabilities are empty")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(truth).tolist()}")
    if (scores < 0).any() or (scores > 1).any():
        raise ValueError(f"probabilities must be in 0..1, got {np.nanmin(scores)}..{np.nanmax(scores)}")
    return truth.astype(np.int64), scores
