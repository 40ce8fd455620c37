"""One head-only trial of MobileNet-V2: ours from an empty cache and from a full one, against a baseline.

Run: python -m benchmarks.depth0 [--eyes=FOLDER] [--weights FILE] [--quick] [--write]
2,000 images at 224 pixels, 30 epochs; images, split, batch size, schedule and augmentation (mirroring) are the same.
Times are for whole commands: interpreter, imports, reading, training, test and, for ours, tracking and the logged
model. With --plain-epochs, the baseline runs only that many epochs; each further epoch is extrapolated as the mean of
those after the first. --quick gives a rough result in a few minutes: with fewer images ours looks worse, because its
start-up takes just as long.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.image_folders import class_folders
from benchmarks.measuring import alternate, environment, ratios, report, seconds_of, spread, table

EMPTY, STORED = "ours, empty cache", "ours, stored"
AIM = 50


def plain_seconds(
    root: Path, options: argparse.Namespace, trials: list[tuple[int, float]], *, test: bool
) -> tuple[float, list[float], float]:
    """The plain way: seconds around its trials, seconds of each through all its epochs, best validation accuracy."""
    command = [
        sys.executable, "-m", "benchmarks.plain", str(root), "--size", str(options.size), "--epochs",
        str(options.plain_epochs or options.epochs), "--trials", json.dumps(trials), *([] if test else ["--no-test"]),
        *(["--weights", options.weights] if options.weights else []),
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    seconds = time.perf_counter() - began
    results = json.loads(done.stdout.splitlines()[-1])
    ran = [sum(trial["epochs"]) + trial["test"] for trial in results]
    left = [
        (options.epochs - len(trial["epochs"])) * statistics.mean(trial["epochs"][1:] or trial["epochs"])
        for trial in results
    ]
    whole = [a + b for a, b in zip(ran, left, strict=True)]
    return seconds - sum(ran), whole, max(trial["accuracy"] for trial in results)


def our_command(root: Path, options: argparse.Namespace) -> list[str]:
    return [
        sys.executable, "-m", "eyegender.train", "data=folder", f"data.root={root / 'images'}", "data.split.by=file",
        f"data.split.file={root / 'split.csv'}", f"data.size={options.size}", "trainer=cpu",
        f"trainer.max_epochs={options.epochs}", "trainer.progress=none", f"features.views={options.views}",
        f"model.weights={options.weights or 'null'}",
    ]  # fmt: skip


def arguments(epochs: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyes", type=Path, help="class folders of real eyes; default: synthetic eyes")
    parser.add_argument("--weights", help="state dict of torchvision's MobileNet-V2; default: random weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--plain-epochs", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="600 images, two epochs of the baseline")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    if options.weights:
        options.weights = str(Path(options.weights).resolve())  # the commands run in other folders
    if options.quick:
        options.images, options.plain_epochs = 600, 2
    return options


def main() -> None:
    options = parsed(arguments(30))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = class_folders(folder / "eyes", options.images, options.eyes)
        ours = [*our_command(root, options), "model.finetune_depth=0", f"tracking.root={folder / 'mlruns'}"]
        cache = folder / "cache"
        accuracy: dict[str, float] = {}
        fit: dict[str, float] = {}

        def run(way: str) -> float:
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            seconds = seconds_of([*ours, f"hydra.run.dir={out}"], folder, EYEGENDER_CACHE=str(cache))
            metrics = json.loads((out / "metrics.json").read_text())
            accuracy["ours"], fit[way] = metrics["metrics"]["val/accuracy"], metrics["fit_seconds"]
            return seconds

        def cold() -> float:
            shutil.rmtree(cache, ignore_errors=True)
            return run(EMPTY)

        def warm() -> float:
            return run(STORED)

        def plain() -> float:
            around, [trial], accuracy["plain"] = plain_seconds(root, options, [(0, 1e-3)], test=True)
            return around + trial

        seconds = alternate({EMPTY: cold, STORED: warm, "plain": plain}, options.rounds)
    rows = [("way", "seconds", "plain / this", "best validation accuracy")]
    for way, values in seconds.items():
        reached = f"{accuracy['plain' if way == 'plain' else 'ours']:.3f}"
        if way == "plain" and options.plain_epochs:
            reached += f" after {options.plain_epochs} epochs"
        rows.append((way, spread(values, 1), spread(ratios(seconds["plain"], values), 1), reached))
    ran = f"The baseline (plain) ran {options.plain_epochs} of them; the rest is extrapolated. " * bool(
        options.plain_epochs
    )
    kind = "real" if options.eyes else "synthetic"
    head = f"{options.images} {kind} images at {options.size} pixels, {options.epochs} epochs. {ran}Goal: {AIM} times."
    # The last round's.
    own, epochs = seconds[STORED][-1] - fit[STORED], fit[STORED]
    stored = seconds[EMPTY][-1] - own - epochs
    parts = (
        f"Of our time, any run takes {own:.1f} s (start, imports, tracking, test, logged model), the {options.epochs} "
        f"epochs take {epochs:.1f} s, and decoding the images and computing the activations takes {stored:.1f} s."
    )
    report("depth0", f"{head}\n\n{table(rows)}\n\n{parts}", write=options.write)


if __name__ == "__main__":
    main()
