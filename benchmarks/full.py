"""Full-depth training throughput against a plain loop in float32: both backbones, small and full size.

Run: python -m benchmarks.full [--only mobilenet_v2@96] [--compile] [--write]
Ours is the Lightning run as `python -m eyegender.train` would set it up, precision and layout measured first, pictures
from the store, augmented. The plain loop trains torchvision's network as it comes on a batch of random tensors in
memory. With --compile ours may compile its steps, if a measurement (minutes on a CPU) says that a long run gains.
Pictures per second from the median step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time

import pytorch_lightning as pl
import torch
from torch import nn

from benchmarks.measuring import alternate, ratios, report, spread, table
from eyegender.features import quick_training
from eyegender.schema import parse
from eyegender.training.build import build_data, build_model, trainer_arguments

CASES = ("mobilenet_v2@96", "mobilenet_v2@224", "inception_v3@96", "inception_v3@299")


class Times(pl.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def measure(case: str, batch: int, steps: int, rounds: int, *, compiles: bool) -> tuple[dict[str, list[float]], str]:
    """Seconds per step of both ways, and the precision that ours chose."""
    model, _, size = case.partition("@")
    chosen = ""

    def prepared() -> tuple:
        from hydra import compose, initialize_config_dir

        from eyegender.command import config_folder

        with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
            cfg = parse(
                compose(
                    "train",
                    [
                        f"model={model}", f"data.size={size}", f"data.n={2 * batch * steps}", "model.weights=null",
                        f"trainer.batch_size={batch}", "trainer.max_epochs=1", "data.split.by=random",
                        f"trainer.compile={'auto' if compiles else 'false'}",
                    ],
                )
            )  # fmt: skip
        pl.seed_everything(0, verbose=False)
        data = build_data(cfg)
        data.setup("fit")
        module = build_model(cfg, classes=data.samples.classes, balance=1.0).classifier
        module.network.use_channels_last()
        return cfg, data, module

    def ours() -> float:
        nonlocal chosen
        cfg, data, module = prepared()
        arguments = trainer_arguments(cfg)
        quick_training.settle(cfg, arguments, module.network, 10**9, data.size)
        chosen = str(arguments["precision"])
        chosen += ", channels last" if module.network.memory_format == torch.channels_last else ""
        chosen += ", compiled" if module.network._compiled_call_impl is not None else ""
        times = Times()
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                **arguments, logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[times],
                enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, limit_train_batches=steps + 1,
                default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(module, datamodule=data)
        return statistics.median(b - a for a, b in zip(times.ends, times.ends[1:], strict=False))

    def plain() -> float:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _, _, module = prepared()
        cls = {"mobilenet_v2": "mobilenet_v2.MobileNetV2", "inception_v3": "inception_v3.InceptionV3"}[model]
        from eyegender.allowed import load_class
        from eyegender.models.backbone import Backbone

        backbone: type[Backbone] = load_class(f"eyegender.models.{cls}", Backbone)
        network = backbone.torchvision_network().to(device).train()
        del module
        optimizer = torch.optim.AdamW(network.parameters())
        pixels, labels = torch.rand(batch, 3, int(size), int(size), device=device), torch.ones(batch, device=device)
        ends = []
        for _ in range(steps + 1):
            optimizer.zero_grad()
            out = network(pixels)
            nn.functional.binary_cross_entropy_with_logits(out[:, 0], labels).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
        return statistics.median(b - a for a, b in itertools.pairwise(ends))

    return alternate({"plain": plain, "ours": ours}, rounds), chosen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=CASES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = [("network and size", "plain, pictures/s", "ours, pictures/s", "ours / plain", "ours computes in")]
    for case in options.only or CASES:
        taken, chosen = measure(case, options.batch, options.steps, options.rounds, compiles=options.compile)
        speeds = {way: [options.batch / value for value in values] for way, values in taken.items()}
        gain = ratios(speeds["ours"], speeds["plain"])
        rows.append((case, spread(speeds["plain"], 1), spread(speeds["ours"], 1), spread(gain), chosen))
    report("full", f"Batches of {options.batch}, every stage trains.\n\n{table(rows)}", write=options.write)


if __name__ == "__main__":
    main()
