"""Latency of the served network, for single images and for batches, against torchvision's unchanged network.

Run: python -m benchmarks.serve [--write]
Ours does what a logged model does with uint8 arrays of the right size: checks, conversion, network, sigmoid. The
baseline is torchvision's float32 network on a tensor that is already normalized. The result is milliseconds per call,
the median of --calls.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.measuring import alternate, ratios, report, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

BACKBONES = {"mobilenet_v2.MobileNetV2": 224, "inception_v3.InceptionV3": 299}


def milliseconds(call: Callable[[], object], calls: int) -> float:
    for _ in range(3):  # until buffers and threads are there
        call()
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    from eyegender.core.allow_list import load_class
    from eyegender.inference.mlflow_model import EyeModel
    from eyegender.models.backbone import Backbone
    from eyegender.models.heads import LinearHead
    from eyegender.models.network import Network
    from eyegender.models.saved_network import ModelSpec, save_network

    rows = [("network", "images", "plain, ms", "ours, ms", "plain / ours")]
    for target, size in BACKBONES.items():
        path = f"eyegender.models.{target}"
        backbone: Backbone = load_class(path, Backbone)()
        plain = backbone.torchvision_network().eval()
        with tempfile.TemporaryDirectory() as name:
            network = Network(backbone, LinearHead(backbone.channels), 0)
            save_network(network, ModelSpec(path, "linear", 0, size, "gray", ("female", "male")), Path(name))
            served = EyeModel()
            served.load_context(SimpleNamespace(artifacts={"network": name}))
        for count in options.batches:
            pixels = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
            tensor = torch.rand(count, 3, size, size)

            def ask(served: EyeModel = served, pixels: np.ndarray = pixels) -> object:
                return served.predict(None, pixels)

            @torch.inference_mode()
            def infer(plain: torch.nn.Module = plain, tensor: torch.Tensor = tensor) -> object:
                return plain(tensor)

            taken = alternate(
                {
                    "plain": lambda infer=infer: milliseconds(infer, options.calls),
                    "ours": lambda ask=ask: milliseconds(ask, options.calls),
                },
                options.rounds,
            )
            gain = ratios(taken["plain"], taken["ours"])
            rows.append((backbone.name, str(count), spread(taken["plain"], 1), spread(taken["ours"], 1), spread(gain)))
    report("serve", table(rows), write=options.write)


if __name__ == "__main__":
    main()
