"""Grad-CAM heat maps (Selvaraju et al. 2017, arXiv 1610.02391) by the package grad-cam, and figures of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError, one_line
from eyegender.data.decode import decode, read_image_bytes, to_pixels
from eyegender.models.metrics import of_true_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eyegender.inference.labeled_images import LabeledImages
    from eyegender.inference.load import LoadedModel
    from eyegender.inference.prediction import EyeCropper, PredictionRow
    from eyegender.models.network import Network
    from eyegender.tracking.predictions import Predictions

EXTRA = "eyegender[explain]"
BATCH_SIZE = 16
MIN_MAP_SIZE = 4
FIGURE = "grad_cam"
MAX_FILES = 200
MAX_NAME_LENGTH = 60  # of an image file, within the name of its figure


class _DifferentiableNetwork(nn.Module):
    """A network with gradients through its frozen stages, and logits of shape (N, 1 or K) as grad-cam expects."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.network.normalise(pixels).contiguous(memory_format=self.network.memory_format)
        logits: Tensor = self.network.head(self.network.stages(x))
        return logits if logits.ndim > 1 else logits[:, None]


def check_installed() -> None:
    """Raises UserError if the package grad-cam is not installed."""
    try:
        import pytorch_grad_cam  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise UserError(f"Grad-CAM needs the package grad-cam; pip install '{EXTRA}'") from error


def grad_cam(model: LoadedModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each region contributed to the predicted class: 0..1, float32 of shape (N, size, size).

    The gradients are those of the logit at the last feature map of at least `MIN_MAP_SIZE` x `MIN_MAP_SIZE`. The very
    last map of a small image can be 1 x 1, which shows nothing.

    Args:
        model: any network of this package.
        pixels: uint8 images of shape (N, C, size, size).

    Raises:
        UserError: the package grad-cam is not installed.
    """
    check_installed()
    from pytorch_grad_cam import GradCAM

    network = model.network
    target = network.stages[_target_stage(network, pixels[:1])]
    maps = []
    with torch.enable_grad(), GradCAM(model=_DifferentiableNetwork(network), target_layers=[target]) as cam:
        for start in range(0, len(pixels), BATCH_SIZE):
            batch = torch.from_numpy(pixels[start : start + BATCH_SIZE]).to(network.mean.device).float()
            batch.requires_grad_()  # frozen stages only propagate a gradient if their input requires one
            maps.append(np.asarray(cam(input_tensor=batch, targets=[_predicted_score] * len(batch)), np.float32))
    return np.concatenate(maps)


def _target_stage(network: Network, pixels: NDArray[np.uint8]) -> int:
    """The last stage whose feature map is large enough, or else the first stage."""
    target = 0
    with torch.inference_mode():
        x = network.normalise(torch.from_numpy(pixels).to(network.mean.device))
        for position, stage in enumerate(network.stages):
            x = stage(x)
            if min(x.shape[2:]) >= MIN_MAP_SIZE:
                target = position
    return target


def _predicted_score(output: Tensor) -> Any:
    """The score of the predicted class: the largest of K logits; the logit for label 1, its negative for label 0."""
    if output.shape[-1] > 1:
        return output[..., int(output.detach().argmax())]
    logit = output[..., 0]
    return logit if float(logit.detach()) > 0 else -logit


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend images (N, C, S, S) with their heat maps (N, S, S) in color: uint8 (N, 3, S, S)."""
    from matplotlib import colormaps

    colors = colormaps["inferno"](heat)[..., :3].transpose(0, 3, 1, 2) * 255.0
    alpha = 0.55 * heat[:, None]
    blended = (1.0 - alpha) * np.broadcast_to(pixels, colors.shape) + alpha * colors
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def explain_most_wrong(
    model: LoadedModel, images: LabeledImages, predictions: Predictions, count: int, folder: Path
) -> Path:
    """Write `figures/grad_cam.png`: the most confident wrong predictions, each image beside its heat map.

    If there are fewer wrong ones, the least confident right ones follow. A tracked model's run gets the figure, too.
    """
    from eyegender.plots.figures import save_figures
    from eyegender.plots.image_sheet import image_sheet

    probabilities = predictions.probabilities
    many = probabilities.ndim > 1
    distance = 1 - of_true_class(predictions.labels, probabilities) if many else abs(predictions.labels - probabilities)
    worst = np.argsort(-distance, kind="stable")[:count]
    pixels = images.pixels(worst)
    classes = images.samples.classes
    captions: list[str] = []
    names: list[str] = []
    for i in worst:
        predicted = predictions.predicted[i]
        shown = predicted if many else 1
        p = probabilities[i, shown] if many else probabilities[i]
        captions += [
            f"is {classes[predictions.labels[i]]}",
            f"predicted {classes[predicted]}\np({classes[shown]}) {p:.2f}",
        ]
        names += [predictions.names[i], ""]
    title = f"The {len(worst)} most wrong predictions, by Grad-CAM"
    figure = image_sheet(_with_heat_maps(model, pixels), captions, names, title)
    path = save_figures({FIGURE: figure}, folder / "figures")[0]
    if model.store is not None and model.run_id is not None:
        model.store.client.log_artifact(model.run_id, str(path), "figures")
    return path


def explain_files(
    model: LoadedModel, rows: Sequence[PredictionRow], crop_eyes: EyeCropper | None, folder: Path
) -> list[Path]:
    """Write one figure per row with a probability, up to `MAX_FILES`, into `folder`."""
    from eyegender.plots.figures import save_figures
    from eyegender.plots.image_sheet import image_sheet

    written = []
    predicted = [row for row in rows if row.probability is not None]
    for number, row in enumerate(predicted[:MAX_FILES]):
        path = Path(row.path)
        image = decode(read_image_bytes(path), upright=crop_eyes is None)
        if crop_eyes is not None:
            image = crop_eyes(path, image)[row.eye]
        pixels = to_pixels(image, model.spec.size, model.spec.color)[None]
        shown = model.spec.classes[row.probabilities.index(max(row.probabilities)) if row.probabilities else 1]
        captions = ["input of the model", f"Grad-CAM\np({shown}) {row.probability:.2f}"]
        title = f"{one_line(path.name)} {row.eye}: {row.label or row.note}".replace(" :", ":")
        figure = image_sheet(_with_heat_maps(model, pixels), captions, ["", ""], title, fewest_columns=2)
        name = one_line(path.stem)[:MAX_NAME_LENGTH]
        written += save_figures({f"{number:04d}-{name}{row.eye and '-' + row.eye}": figure}, folder)
    if len(predicted) > MAX_FILES:
        print(f"Grad-CAM figures of only the first {MAX_FILES} of {len(predicted)} predictions")
    return written


def _with_heat_maps(model: LoadedModel, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each image, followed by itself with its heat map: uint8 (2N, 3, S, S)."""
    heat_maps = overlay(pixels, grad_cam(model, pixels))
    plain = np.broadcast_to(pixels, heat_maps.shape)
    return np.stack([plain, heat_maps], axis=1).reshape(-1, *heat_maps.shape[1:])
