"""A network as one ONNX file that takes pixels and gives probabilities, and the check that it gives the same ones."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.inference.load import LoadedModel
    from eyegender.models.network import Network

EXTRA = "eyegender[onnx]"
TOLERANCE = 1e-4
INPUT, OUTPUT = "pixels", "probability"
CARD_KEY = "eyegender.card"


class _Whole(nn.Module):
    """Pixels to probabilities, mirror image included where the card says so."""

    def __init__(self, network: Network, *, flip: bool) -> None:
        super().__init__()
        self.network = network
        self.flip = flip

    def forward(self, pixels: Tensor) -> Tensor:
        scaled = self.network.normalise(pixels)
        logits: Tensor = self.network.head(self.network.stages(scaled))
        if self.flip:
            logits = (logits + self.network.head(self.network.stages(scaled.flip(3)))) / 2
        return torch.sigmoid(logits)


def check_installed() -> None:
    """Raises UserError where a package is missing that exporting needs."""
    for name in ("onnx", "onnxruntime", "onnxscript"):  # torch's exporter imports the last
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"format=onnx needs the package {error.name}; pip install '{EXTRA}'") from error


def export_onnx(model: LoadedModel, path: Path) -> float:
    """Write the model and compare it with onnxruntime's answers on random pictures.

    The file's input `pixels` is uint8 (N, C, size, size) of any N: a decoded picture, gray or colour as the card says,
    resized to size x size by bicubic interpolation. The card is in the file's metadata. Resizing stays outside: ONNX's
    and Pillow's bicubic round differently.

    Returns:
        The largest difference of a probability that was seen.

    Raises:
        UserError: the packages are missing, the file cannot be written, or the answers differ by more than `TOLERANCE`.
    """
    check_installed()
    import onnx
    import onnxruntime  # type: ignore[import-untyped]

    for noisy in ("onnxscript", "onnx_ir", "torch.onnx"):  # every pass of the optimizer reports what it removed
        logging.getLogger(noisy).setLevel(logging.WARNING)
    card = model.card
    network = model.network.to("cpu").to(memory_format=torch.contiguous_format)
    whole = _Whole(network, flip=card.flip_average).eval()
    example = torch.zeros((2, 1 if card.color == "gray" else 3, card.size, card.size), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own deprecations
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("pictures", min=1)}},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch's exporter returned nothing")
    proto = program.model_proto
    proto.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value=json.dumps(asdict(card))))
    onnx.checker.check_model(proto)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as file:
            file.write(proto.SerializeToString())
            file.flush()
            session = onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"])
            difference = largest_difference(model, session)
            if not difference <= TOLERANCE:
                raise UserError(
                    f"onnxruntime's answers differ by {difference:.2g}, more than {TOLERANCE}; nothing was written"
                )
    except OSError as error:
        raise UserError(f"output: cannot write {path} ({error.strerror}); set output=") from error
    return difference


def largest_difference(model: LoadedModel, session: object) -> float:
    """Between torch's and onnxruntime's probabilities, on batches of one and of several random pictures."""
    card = model.card
    rng = np.random.default_rng(0)
    found = 0.0
    for count in (1, 7):
        shape = (count, 1 if card.color == "gray" else 3, card.size, card.size)
        pixels: NDArray[np.uint8] = rng.integers(0, 256, shape, dtype=np.uint8)
        (theirs,) = session.run([OUTPUT], {INPUT: pixels})  # type: ignore[attr-defined]
        found = max(found, float(np.abs(model.probabilities(pixels) - theirs).max()))
    return found
