import numpy as np
import pytest

from eyegender.inference.grad_cam import grad_cam, overlay
from eyegender.inference.load import LoadedModel
from eyegender.models.saved_network import ModelSpec, untrained

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("depth", [0, 19])  # frozen stages must propagate the gradient, too
def test_the_heat_map_is_within_0_to_1(depth: int) -> None:
    card = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", depth, 64, "gray", ("female", "male"))
    model = LoadedModel(untrained(card), card, "random")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    before = model.probabilities(pixels)
    heat = grad_cam(model, pixels)
    assert heat.shape == (3, 64, 64)
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat.std() > 0.01  # not a single region
    np.testing.assert_array_equal(model.probabilities(pixels), before)


def test_zero_heat_leaves_the_image_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(pixels, np.zeros((2, 8, 8), np.float32)), np.repeat(pixels, 3, axis=1))
