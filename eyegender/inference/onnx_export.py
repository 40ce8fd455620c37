"""Exports a network as one ONNX file from pixels to probabilities, and checks the file against PyTorch."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError
from eyegender.models.heads import probabilities_of

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.inference.load import LoadedModel
    from eyegender.models.network import Network

EXTRA = "eyegender[onnx]"
TOLERANCE = 1e-4
INPUT = "pixels"
OUTPUT, OUTPUT_OF_MANY = "probability", "probabilities"  # of two classes, and of more
SPEC_KEY = "eyegender.card"


class _PixelsToProbability(nn.Module):
    """The exported graph: normalization, network, average with the mirror image if `flip`, and sigmoid or softmax."""

    def __init__(self, network: Network, *, flip: bool) -> None:
        super().__init__()
        self.network = network
        self.flip = flip

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.network.normalise(pixels)
        logits: Tensor = self.network.head(self.network.stages(x))
        if self.flip:
            logits = (logits + self.network.head(self.network.stages(x.flip(3)))) / 2
        return probabilities_of(logits)


def check_installed() -> None:
    """Raises UserError if a package that the export needs is not installed."""
    for name in ("onnx", "onnxruntime", "onnxscript"):  # torch's exporter imports onnxscript
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"format=onnx needs the package {error.name}; pip install '{EXTRA}'") from error


def export_onnx(model: LoadedModel, path: Path) -> float:
    """Write the model to `path` if the probabilities of onnxruntime agree with those of PyTorch on random images.

    The input `pixels` of the file is uint8 (N, C, size, size) for any N: decoded images in the model's color
    mode, resized to size x size by bicubic interpolation. The metadata of the file holds the model's specification.
    Resizing is not part of the file because ONNX and Pillow round bicubic interpolation differently.

    Returns:
        The largest difference between two probabilities.

    Raises:
        UserError: a package is missing, the file cannot be written, or the difference is larger than `TOLERANCE`.
    """
    check_installed()
    import onnx
    import onnxruntime  # type: ignore[import-untyped]

    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # each optimization pass logs what it removed
        logging.getLogger(name).setLevel(logging.WARNING)
    spec = model.spec
    network = model.network.to("cpu").to(memory_format=torch.contiguous_format)
    graph = _PixelsToProbability(network, flip=spec.flip_average).eval()
    example = torch.zeros((2, *_input_shape(model)), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[output_name(model)],
            dynamic_shapes={INPUT: {0: torch.export.Dim("images", min=1)}},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch's exporter returned nothing")
    proto = program.model_proto
    _clear_notes(proto)
    proto.metadata_props.append(onnx.StringStringEntryProto(key=SPEC_KEY, value=json.dumps(spec.to_json())))
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    difference = _largest_difference(model, onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the probabilities of onnxruntime differ from PyTorch's by {difference:.2g}, more than {TOLERANCE}; "
            "nothing was written"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb", one_writer=False) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"output: cannot write {path} ({error.strerror}); set output=") from error
    return difference


def _clear_notes(message: Any) -> None:
    """Remove what the exporter notes about its parts: the lines of the code, with the folders of this machine."""
    for field, value in message.ListFields():
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _clear_notes(part)


def _largest_difference(model: LoadedModel, session: Any) -> float:
    """Between the probabilities of PyTorch and onnxruntime, on one and on several random images."""
    rng = np.random.default_rng(0)
    largest = 0.0
    for count in (1, 7):
        pixels = rng.integers(0, 256, (count, *_input_shape(model)), dtype=np.uint8)
        (probabilities,) = session.run([output_name(model)], {INPUT: pixels})
        largest = max(largest, float(np.abs(model.probabilities(pixels) - probabilities).max()))
    return largest


def output_name(model: LoadedModel) -> str:
    """The name of the file's output: `probability` (N,) of label 1, or `probabilities` (N, K) of more classes."""
    return OUTPUT if model.spec.outputs == 1 else OUTPUT_OF_MANY


def _input_shape(model: LoadedModel) -> tuple[int, int, int]:
    return (1 if model.spec.color == "gray" else 3, model.spec.size, model.spec.size)
