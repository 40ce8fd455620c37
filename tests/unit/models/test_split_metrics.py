from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional import classification as tm

from eyegender.models.metrics import CALIBRATION_BINS, COUNT_METRICS
from eyegender.models.split_metrics import SplitMetrics, metrics_from_logits


def test_metrics_computed_by_hand() -> None:
    # Probabilities above 0.5 predict male: tp 2, fp 1, fn 1, tn 1.
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, -2.0])
    labels = torch.tensor([1, 1, 0, 1, 0])
    found = metrics_from_logits(logits, labels)
    assert (found["tp"], found["fp"], found["fn"], found["tn"]) == (2, 1, 1, 1)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx(5 / 6)  # of 6 pairs one is ranked wrongly


def test_one_class_only_has_no_auroc() -> None:
    assert math.isnan(metrics_from_logits(torch.tensor([1.0, 2.0]), torch.tensor([1, 1]))["auroc"])


def test_a_padding_image_counts_once() -> None:
    collected = SplitMetrics()
    losses = torch.zeros(2)
    collected.update(torch.tensor([1.0, -1.0]), torch.tensor([1, 0]), losses, torch.tensor([0, 1]))
    collected.update(torch.tensor([3.0, 1.0]), torch.tensor([0, 1]), losses, torch.tensor([2, 0]))
    found = collected.compute()
    assert found["tp"] + found["fp"] + found["tn"] + found["fn"] == 3
    assert collected.collected()["index"].tolist() == [0, 1, 2]


def test_the_state_is_in_no_checkpoint() -> None:
    collected = SplitMetrics()
    collected.update(torch.ones(1), torch.ones(1), torch.ones(1), torch.zeros(1))
    assert not collected.state_dict()


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_torchmetrics(seed: int) -> None:
    """Ratios of counts are the same float32 as in runs of version 0.1, whose metrics torchmetrics computed."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (211 + seed,), generator=generator)
    logits = torch.randn(len(labels), generator=generator) + labels
    probability = torch.sigmoid(logits.double())
    found = metrics_from_logits(logits, labels)
    for name in COUNT_METRICS:
        function = {"f1": tm.binary_f1_score}.get(name) or getattr(tm, f"binary_{name}")
        assert found[name] == float(function(probability, labels)), name
    assert found["auroc"] == pytest.approx(float(tm.binary_auroc(probability, labels)), abs=2e-7)
    calibration = tm.binary_calibration_error(probability, labels, n_bins=CALIBRATION_BINS)
    assert found["calibration_error"] == pytest.approx(float(calibration), abs=1e-12)
    assert [found[name] for name in ("tn", "fp", "fn", "tp")] == tm.binary_confusion_matrix(
        probability, labels
    ).flatten().tolist()
