from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional import classification as tm

from eyegender.models.metrics import (
    CALIBRATION_BINS,
    METRICS,
    metrics_from_counts,
    metrics_from_predictions,
    weighted_metrics,
)


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and overlapping probabilities, with ties and exact 0, 0.5 and 1 among them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.25), 0, 1)
    scores = np.where(rng.random(n) < 0.3, scores.round(1), scores)
    scores[:3] = 0.0, 0.5, 1.0
    return labels, scores


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics(seed: int) -> None:
    labels, scores = sample(211, seed)
    truth, probability = torch.from_numpy(labels), torch.from_numpy(scores)
    expected = {
        "accuracy": tm.binary_accuracy(probability, truth),
        "precision": tm.binary_precision(probability, truth),
        "recall": tm.binary_recall(probability, truth),
        "specificity": tm.binary_specificity(probability, truth),
        "f1": tm.binary_f1_score(probability, truth),
        "auroc": tm.binary_auroc(probability, truth),
        "calibration_error": tm.binary_calibration_error(probability, truth, n_bins=CALIBRATION_BINS),
    }
    measured = metrics_from_predictions(labels, scores)
    assert set(measured) == set(expected) == set(METRICS)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(float(value), abs=1e-6), name


def test_counts_worked_by_hand() -> None:
    found = metrics_from_counts(tn=50, fp=10, fn=5, tp=35)
    assert found["accuracy"] == pytest.approx(0.85)
    assert found["precision"] == pytest.approx(35 / 45)
    assert found["recall"] == pytest.approx(0.875)
    assert found["specificity"] == pytest.approx(50 / 60)
    assert found["f1"] == pytest.approx(70 / 85)


def test_counts_of_many_matrices_at_once() -> None:
    assert metrics_from_counts([1, 0], [0, 0], [0, 2], [1, 2])["recall"].tolist() == [1.0, 0.5]


def test_a_ratio_without_denominator_is_zero_as_in_torchmetrics() -> None:
    found = metrics_from_predictions([0, 0, 0], [0.1, 0.2, 0.3])
    assert (found["precision"], found["recall"], found["f1"], found["accuracy"]) == (0.0, 0.0, 0.0, 1.0)
    assert np.isnan(found["auroc"])


def test_weights_count_like_repeated_images() -> None:
    labels, scores = sample(60, 9)
    times = np.random.default_rng(1).integers(0, 4, 60)
    repeated = metrics_from_predictions(np.repeat(labels, times), np.repeat(scores, times))
    for name, value in weighted_metrics(METRICS, labels, scores, times[None].astype(float)).items():
        assert value[0] == pytest.approx(repeated[name]), name


def test_auroc_agrees_with_scikit_learn_on_many_ties() -> None:
    labels, scores = sample(300, 3)
    scores = scores.round(1)
    assert metrics_from_predictions(labels, scores)["auroc"] == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "no images"),
        ([0, 1], [0.5], "one shape"),
        ([0, 2], [0.5, 0.5], "labels must be 0 or 1"),
        ([0, 1], [0.5, 1.5], r"in 0\.\.1, got 0.5..1.5"),
        ([0, 1], [0.5, np.nan], "NaN for 1 of 2"),
    ],
)
def test_invalid_predictions_are_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics_from_predictions(labels, scores)


def test_an_unknown_metric_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; known: accuracy, precision"):
        weighted_metrics(["acuracy"], np.array([0]), np.array([0.5]), np.ones((1, 1)))
