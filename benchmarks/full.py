"""Throughput of full-depth training against a plain float32 loop: both backbones, at a small and at full size.

Run: python -m benchmarks.full [--only mobilenet_v2@96] [--compile] [--write]
Ours is the Lightning run that `eyegender train` would set up: precision and memory format are measured
first, images come from the store and are augmented. The plain loop trains torchvision's network, unchanged, on a
batch of random tensors in memory. With --compile, ours may compile its steps on a GPU, if a measurement shows that a
long run gains. The result is images per second from the median step; each measurement is a process of its own. Where
the goal is missed, a profile of one of our steps follows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time

import pytorch_lightning as pl
import torch
from torch import nn

from benchmarks.measuring import alternate, environment, ratios, report, spread, table
from eyegender.core.schema import parse
from eyegender.training.autotune import autotune, tune_malloc
from eyegender.training.build import build_data, build_model, build_trainer, trainer_settings

CASES = ("mobilenet_v2@96", "mobilenet_v2@224", "inception_v3@96", "inception_v3@299")
AIM = 2.0
CLASSES = {"mobilenet_v2": "mobilenet_v2.MobileNetV2", "inception_v3": "inception_v3.InceptionV3"}
PROFILED = 8  # operators that a profile names; the others are added up


class Times(pl.Callback):
    """When each step ended, and where one step's time went."""

    def __init__(self, profiled: bool) -> None:
        self.ends: list[float] = []
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) if profiled else None

    def on_train_batch_start(self, *_: object) -> None:
        if self.profiler is not None and len(self.ends) == 2:
            self.profiler.start()

    def on_train_batch_end(self, *_: object) -> None:
        if self.profiler is not None and len(self.ends) == 2:
            self.profiler.stop()
        self.ends.append(time.perf_counter())

    def shares(self) -> dict[str, float]:
        """Each operator's share of the time of the profiled step, the largest first."""
        if self.profiler is None:
            return {}
        times = {event.key: event.self_cpu_time_total for event in self.profiler.key_averages()}
        whole = sum(times.values())
        return {key: value / whole for key, value in sorted(times.items(), key=lambda item: -item[1])[:PROFILED]}


def prepared(options: argparse.Namespace, case: str) -> tuple:
    from hydra import compose, initialize_config_dir

    from eyegender.core.config_files import config_folder

    model, _, size = case.partition("@")
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        cfg = parse(
            compose(
                "train",
                [
                    f"model={model}", f"data.size={size}", f"data.n={2 * options.batch * options.steps}",
                    "model.weights=null", f"trainer.batch_size={options.batch}", "trainer.max_epochs=1",
                    "data.split.by=random", f"trainer.compile={'auto' if options.compile else 'false'}",
                ],
            )
        )  # fmt: skip
    pl.seed_everything(0, verbose=False)
    data = build_data(cfg)
    data.setup("fit")
    module = build_model(cfg, classes=data.samples.classes, weights=1.0).classifier
    module.network.use_channels_last()
    return cfg, data, module


def ours(options: argparse.Namespace, case: str) -> dict:
    tune_malloc()  # as a run does
    cfg, data, module = prepared(options, case)
    settings = autotune(cfg, trainer_settings(cfg), module.network, 10**9, data.size)
    chosen = settings.precision
    chosen += ", channels last" if module.network.memory_format == torch.channels_last else ""
    chosen += ", compiled" if module.network._compiled_call_impl is not None else ""
    times = Times(options.profile)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            settings, logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[times],
            enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
            limit_train_batches=options.steps + 1, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    step = statistics.median(b - a for a, b in itertools.pairwise(times.ends))
    return {"step": step, "chosen": chosen, "shares": times.shares()}


def plain(options: argparse.Namespace, case: str) -> dict:
    from eyegender.core.allow_list import load_class
    from eyegender.models.backbone import Backbone

    model, _, size = case.partition("@")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone: type[Backbone] = load_class(f"eyegender.models.{CLASSES[model]}", Backbone)
    network = backbone.torchvision_network().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters())
    pixels = torch.rand(options.batch, 3, int(size), int(size), device=device)
    labels = torch.ones(options.batch, device=device)
    ends = []
    for _ in range(options.steps + 1):
        optimizer.zero_grad()
        out = network(pixels)
        nn.functional.binary_cross_entropy_with_logits(out[:, 0], labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return {"step": statistics.median(b - a for a, b in itertools.pairwise(ends))}


def in_a_process(way: str, case: str, options: argparse.Namespace, *more: str) -> dict:
    """What `way` measures, in a process that knows nothing of the other way."""
    command = [
        sys.executable, "-m", "benchmarks.full", "--way", way, "--only", case, "--batch", str(options.batch), "--steps",
        str(options.steps), *(["--compile"] if options.compile else []), *more,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(case: str, options: argparse.Namespace) -> tuple[dict[str, list[float]], str]:
    """Seconds per step of both ways, and the precision that ours chose."""
    chosen = ""

    def step_of(way: str) -> float:
        nonlocal chosen
        result = in_a_process(way, case, options)
        chosen = result.get("chosen", chosen)
        return float(result["step"])

    return alternate({"plain": lambda: step_of("plain"), "ours": lambda: step_of("ours")}, options.rounds), chosen


def profile(case: str, options: argparse.Namespace) -> str:
    shares = in_a_process("ours", case, options, "--profile")["shares"]
    named = ", ".join(f"{key.removeprefix('aten::')} {value:.0%}" for key, value in shares.items())
    return f"{case}: {named}, the others {1 - sum(shares.values()):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=CASES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--way", choices=("ours", "plain"), help="measure once and print JSON")
    parser.add_argument("--profile", action="store_true", help="with --way ours")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.way:
        print(json.dumps({"ours": ours, "plain": plain}[options.way](options, options.only[0])))
        return
    rows = [("network and size", "plain, images/s", "ours, images/s", "ours / plain", "ours computes in")]
    missed = []
    for case in options.only or CASES:
        seconds, chosen = measure(case, options)
        speeds = {way: [options.batch / value for value in values] for way, values in seconds.items()}
        gain = ratios(speeds["ours"], speeds["plain"])
        rows.append((case, spread(speeds["plain"], 1), spread(speeds["ours"], 1), spread(gain), chosen))
        if statistics.median(gain) < AIM:
            missed.append(profile(case, options))
    text = f"Batches of {options.batch}, all stages train. Goal: {AIM:.0f} times.\n\n{table(rows)}"
    if missed:
        text += "\n\nThe time of one step, by operation, where the goal is missed:\n\n" + "\n".join(
            f"- {line}" for line in missed
        )
    report("full", text, write=options.write)


if __name__ == "__main__":
    main()
