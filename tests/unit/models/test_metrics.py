from __future__ import annotations

import math

import pytest
import torch

from eyegender.models.metrics import SplitMetrics, metrics


def test_by_hand() -> None:
    # Probabilities above 0.5 say male: tp 2, fp 1, fn 1, tn 1.
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, -2.0])
    labels = torch.tensor([1, 1, 0, 1, 0])
    found = metrics(logits, labels)
    assert (found["tp"], found["fp"], found["fn"], found["tn"]) == (2, 1, 1, 1)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx(5 / 6)  # of 6 pairs one is the wrong way round


def test_one_class_only_has_no_auroc() -> None:
    assert math.isnan(metrics(torch.tensor([1.0, 2.0]), torch.tensor([1, 1]))["auroc"])


def test_a_padded_picture_counts_once() -> None:
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
