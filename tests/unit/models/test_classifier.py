from __future__ import annotations

import pytest
import torch

from eyegender.data.loader import Batch
from eyegender.models.classifier import Classifier
from eyegender.models.heads import LinearHead
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.network import Network


@pytest.mark.parametrize("depth", [0, 5, 19])
def test_the_optimizer_has_the_same_groups_whatever_the_depth(depth: int) -> None:
    groups = Classifier(Network(MobileNetV2(), LinearHead(1280), depth), lr=1e-4, head_lr=1e-2).parameter_groups()
    assert [group["name"] for group in groups] == ["backbone", "backbone_no_decay", "head", "head_no_decay"]
    assert [group["lr"] for group in groups] == [1e-4, 1e-4, 1e-2, 1e-2]
    assert [group["weight_decay"] > 0 for group in groups] == [True, False, True, False]
    assert bool(groups[0]["params"]) == (depth > 0)
    torch.optim.AdamW(groups)  # torch takes empty groups


def test_no_parameter_is_in_two_groups_or_in_none() -> None:
    network = Network(MobileNetV2(), LinearHead(1280), 7)
    grouped = [id(p) for group in Classifier(network).parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for _, p in network.trainable())


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(torch.nn.Identity(), label_smoothing=0.2, pos_weight=3.0)  # type: ignore[arg-type]


def test_weights_and_smoothing_apply_in_training_only(classifier: Classifier) -> None:
    logits, labels = torch.tensor([0.0, 0.0]), torch.tensor([0, 1])
    ln2 = torch.tensor(2.0).log()
    torch.testing.assert_close(classifier.loss(logits, labels, training=False), ln2.repeat(2))
    # Target 0.1: 0.1 * 3 ln 2 + 0.9 ln 2; target 0.9: 0.9 * 3 ln 2 + 0.1 ln 2.
    torch.testing.assert_close(classifier.loss(logits, labels, training=True), torch.stack([1.2 * ln2, 2.8 * ln2]))


def test_a_gray_image_is_normalised_like_three_equal_channels() -> None:
    network = Network(MobileNetV2(), LinearHead(1280), 0)
    gray = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(network.normalise(gray), network.normalise(gray.repeat(1, 3, 1, 1)))
    white = network.normalise(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(white, (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))


def test_mixup_weighs_images_and_targets_alike() -> None:
    classifier = Classifier(torch.nn.Identity(), mixup=1.0)  # type: ignore[arg-type]
    labels = torch.arange(16) % 2
    # Each image is as bright as its label, so the brightness of a mixed image is its target.
    batch = Batch(labels.view(-1, 1, 1, 1) * torch.full((16, 1, 4, 4), 200.0), labels, torch.arange(16))
    pixels, targets = classifier._augmented(batch)
    torch.testing.assert_close(pixels.mean((1, 2, 3)) / 200, targets)
    assert len(targets.unique()) > 2
    assert torch.equal(classifier._augmented(batch)[0], pixels)  # the same in every call at one step


def test_without_mixup_targets_are_the_labels() -> None:
    labels = torch.tensor([0, 1])
    batch = Batch(torch.zeros(2, 1, 4, 4), labels, torch.arange(2))
    assert torch.equal(Classifier(torch.nn.Identity())._augmented(batch)[1], labels)  # type: ignore[arg-type]
