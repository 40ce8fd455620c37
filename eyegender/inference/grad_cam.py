"""Why a model decided: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) through the package grad-cam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.inference.load import LoadedModel
    from eyegender.models.network import Network

EXTRA = "eyegender[explain]"
BATCH = 16
PLACES = 4


class _Open(nn.Module):
    """The network with gradients through its frozen stages, too, and one column per picture, as grad-cam wants it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.network.normalise(pixels).contiguous(memory_format=self.network.memory_format)
        logits: Tensor = self.network.head(self.network.stages(x))
        return logits[:, None]


def check_installed() -> None:
    """Raises UserError where the package grad-cam is missing."""
    try:
        import pytorch_grad_cam  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise UserError(f"Grad-CAM needs the package grad-cam; pip install '{EXTRA}'") from error


def explain(model: LoadedModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each place spoke for what the model said: 0..1, float32 of shape (N, size, size).

    The last feature map of at least `PLACES` x `PLACES` places is weighted by the gradient of the logit, taken in the
    direction of the predicted class: the very last map of a small picture is a single place and tells nothing.

    Args:
        model: any network of this program.
        pixels: (N, C, size, size).

    Raises:
        UserError: the package grad-cam is not installed.
    """
    check_installed()
    from pytorch_grad_cam import GradCAM

    network = model.network
    wrapped = _Open(network)
    target = network.stages[_last_with_places(network, pixels[:1])]
    maps = []
    with torch.enable_grad(), GradCAM(model=wrapped, target_layers=[target]) as cam:
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(pixels[start : start + BATCH]).to(network.mean.device).float()
            batch.requires_grad_()  # frozen stages pass a gradient on only if their input wants one
            maps.append(np.asarray(cam(input_tensor=batch, targets=[_towards_the_answer] * len(batch)), np.float32))
    return np.concatenate(maps)


def _last_with_places(network: Network, pixels: NDArray[np.uint8]) -> int:
    """The last stage whose map has enough places; the first stage where none has."""
    found = 0
    with torch.inference_mode():
        x = network.normalise(torch.from_numpy(pixels).to(network.mean.device))
        for position, stage in enumerate(network.stages):
            x = stage(x)
            if min(x.shape[2:]) >= PLACES:
                found = position
    return found


def _towards_the_answer(output: Tensor) -> Any:
    """The logit if it says label 1, else its opposite."""
    logit = output[..., 0]
    return logit if float(logit.detach()) > 0 else -logit


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures (N, C, S, S) with their heat (N, S, S) laid over in colour: uint8 (N, 3, S, S)."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](heat)[..., :3].transpose(0, 3, 1, 2) * 255.0
    strength = 0.55 * heat[:, None]
    gray = np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:])) if pixels.shape[1] == 1 else pixels
    mixed = (1.0 - strength) * gray + strength * colours
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
