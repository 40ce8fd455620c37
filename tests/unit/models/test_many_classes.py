"""Heads, losses and metrics of more than two classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional import classification as tm

from eyegender.data.loader import Batch
from eyegender.models.classifier import Classifier
from eyegender.models.heads import HEADS, build_head, outputs_for
from eyegender.models.intervals import bootstrap_intervals
from eyegender.models.losses import losses, mixed, most_likely
from eyegender.models.metrics import (
    CALIBRATION_BINS,
    METRICS,
    _aurocs_of_classes,
    class_metrics,
    metrics_from_predictions,
)
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network
from eyegender.models.saved_network import ModelSpec, probabilities, untrained
from eyegender.models.split_metrics import metrics_from_logits


def sample(seed: int, n: int = 211, k: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, k, (n,), generator=generator)
    return torch.randn(n, k, generator=generator) + torch.nn.functional.one_hot(labels, k), labels


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_head_has_one_logit_for_two_classes_and_k_for_more(head: str) -> None:
    features = torch.randn(3, 8, 4, 4)
    for classes, shape in ((2, (3,)), (3, (3, 3)), (10, (3, 10))):
        assert build_head(head, 8, 0.0, outputs_for(classes))(features).shape == shape


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_torchmetrics(seed: int) -> None:
    logits, labels = sample(seed)
    scores, found = torch.softmax(logits.double(), 1), metrics_from_logits(logits, labels)
    assert set(found) == set(METRICS)
    for name, function in (("precision", tm.multiclass_precision), ("recall", tm.multiclass_recall),
                           ("specificity", tm.multiclass_specificity), ("f1", tm.multiclass_f1_score)):  # fmt: skip
        assert found[name] == pytest.approx(float(function(scores, labels, 5, average="macro")), abs=1e-6), name
        if name != "specificity":
            each = function(scores, labels, 5, average="none").numpy()
            np.testing.assert_allclose(class_metrics(labels.numpy(), scores.numpy())[name], each, atol=1e-6)
    assert found["accuracy"] == pytest.approx(float(tm.multiclass_accuracy(scores, labels, 5, average="micro")))
    assert found["auroc"] == pytest.approx(float(tm.multiclass_auroc(scores, labels, 5)), abs=1e-6)
    calibration = tm.multiclass_calibration_error(scores, labels, 5, n_bins=CALIBRATION_BINS)
    assert found["calibration_error"] == pytest.approx(float(calibration), abs=1e-6)


def test_a_class_without_images_or_predictions_counts_in_no_mean() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    found = metrics_from_predictions([0, 1, 1], scores)
    assert found["recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["auroc"] == pytest.approx(1.0)
    assert math.isnan(metrics_from_predictions([0, 0, 0], scores)["auroc"])


def test_intervals_contain_the_value() -> None:
    logits, labels = sample(0, n=80)
    persons = [str(i // 2) for i in range(80)]
    for name, interval in bootstrap_intervals(
        labels.numpy(), torch.softmax(logits.double(), 1).numpy(), persons, n_resamples=200
    ).items():
        assert interval.low <= interval.value <= interval.high, name


@pytest.mark.parametrize(("labels", "scores"), [([0, 3], np.full((2, 3), 1 / 3)), ([0, 1], np.full((3, 3), 1 / 3))])
def test_labels_and_probabilities_must_fit(labels: list[int], scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels"):
        metrics_from_predictions(labels, scores)


def test_weights_smoothing_and_mixed_targets() -> None:
    logits, labels = sample(1, n=7, k=3)
    log_p, weight = torch.log_softmax(logits, 1), torch.tensor([1.0, 2.0, 4.0])
    target = torch.nn.functional.one_hot(labels, 3).float() * 0.7 + 0.1
    torch.testing.assert_close(losses(logits, labels, weight, 0.3), -(weight * target * log_p).sum(1))
    others = torch.randperm(7)
    soft = mixed(labels, others, 0.4, 3)
    torch.testing.assert_close(soft.sum(1), torch.ones(7))
    torch.testing.assert_close(losses(logits, soft, weight, 0.3), -(weight * (soft * 0.7 + 0.1) * log_p).sum(1))
    assert torch.equal(most_likely(soft), labels)  # their share is 0.6
    assert torch.equal(most_likely(labels), labels)


def test_two_logits_with_softmax_are_one_logit_with_a_sigmoid() -> None:
    logit, labels = torch.randn(9), torch.randint(0, 2, (9,))
    both = torch.stack([torch.zeros(9), logit], 1)
    torch.testing.assert_close(losses(both, labels), losses(logit, labels))


def test_a_classifier_mixes_images_and_the_targets_of_many_classes() -> None:
    network = Network(MobileNetV2(), build_head("linear", 1280, 0.0, 3), 0)
    classifier = Classifier(network, mixup=1.0, pos_weight=[1.0, 2.0, 3.0])
    labels = torch.arange(12) % 3
    pixels, targets = classifier._augmented(Batch(torch.zeros(12, 1, 32, 32), labels, torch.arange(12)))
    assert targets.shape == (12, 3)
    assert classifier.loss(network(pixels), targets, training=True).shape == (12,)


def test_a_saved_network_gives_probabilities_of_each_class() -> None:
    spec = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("a", "b", "c"), True)
    found = probabilities(untrained(spec), spec, np.zeros((2, 1, 32, 32), np.uint8))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert probabilities(untrained(spec), spec, np.zeros((0, 1, 32, 32), np.uint8)).shape == (0, 3)
    with pytest.raises(ValueError, match="2..65536 names, got 1"):
        ModelSpec("x", "linear", 0, 32, "gray", ("a",))


@pytest.mark.parametrize("small", [0, 7, 400])
def test_the_auroc_of_many_classes_is_the_same_in_both_ways(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared in a matrix product, by sorting, and some of each; with ties, weights and a class that no image has."""
    rng = np.random.default_rng(0)
    labels = rng.choice([*range(12), *range(4, 12)], 90)
    scores = rng.integers(1, 5, (90, 13)).astype(float)
    weights = rng.poisson(1.0, (6, 90)).astype(float)
    weights[2, labels == 4] = 0  # a resample without a class
    monkeypatch.setattr("eyegender.models.metrics._SMALL_CLASS", small)
    monkeypatch.setattr("eyegender.models.metrics._CELLS", 1000)  # some tables for a class
    found = _aurocs_of_classes(labels, scores, weights)
    for k in range(13):
        for row, area in zip(weights, found[k], strict=True):
            if 0 < row[labels == k].sum() < row.sum():
                assert area == pytest.approx(roc_auc_score(labels == k, scores[:, k], sample_weight=row), abs=1e-12)
            else:
                assert math.isnan(area)
