import numpy as np
import pytest

from eyegender.inference.grad_cam import explain, overlay
from eyegender.inference.load import LoadedModel
from eyegender.models.saved_network import Card, untrained

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("depth", [0, 19])  # frozen stages must pass the gradient, too
def test_every_place_gets_a_share_in_0_to_1(depth: int) -> None:
    card = Card("eyegender.models.mobilenet_v2.MobileNetV2", "linear", depth, 64, "gray", ("female", "male"))
    model = LoadedModel(untrained(card), card, "random")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    before = model.probabilities(pixels)
    heat = explain(model, pixels)
    assert heat.shape == (3, 64, 64)
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat.std() > 0.01  # not one place only
    np.testing.assert_array_equal(model.probabilities(pixels), before)


def test_no_heat_leaves_the_picture_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(pixels, np.zeros((2, 8, 8), np.float32)), np.repeat(pixels, 3, axis=1))
