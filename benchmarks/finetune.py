"""The sweep `+sweeps=finetune` against the same sweep without its scheduler: what pausing saves, and what it loses.

Run: python -m benchmarks.finetune [--eyes=FOLDER] [--weights FILE] [--images 2000] [--seeds 3] [--keep FILE] [--write]
12 trials of 10 epochs at 96 pixels, one worker with one torch thread. Each sweep starts from an empty cache. Seconds
are those of the processor, so that other work on the machine changes them little; the start of the command counts.
With --keep, sweeps that have finished are kept in a JSON file, and the same command on the same processor goes on with
the others.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sqlite3
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.depth0 import our_command
from benchmarks.image_folders import class_folders
from benchmarks.measuring import report, seconds_of, spread, table
from benchmarks.sweep import TRIALS, Kept, Sweep

WAYS = {"default": [], "every trial to its end": ["hydra/sweeper/scheduler=none"]}
AIM_SECONDS, AIM_POINTS = 0.5, 0.4


def run(changes: list[str], seed: int, root: Path, output: Path, options: argparse.Namespace) -> Sweep:
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    start, rest = our_command(root, options)[:3], our_command(root, options)[3:]
    command = [
        *start, "-m", *rest, "+sweeps=finetune", *changes, "trainer.threads=1", f"seed={seed}",
        f"hydra.sweeper.n_trials={options.trials}", "hydra.sweep.dir=sweep", "hydra.sweeper.storage=sqlite:///sweep.db",
        "+hydra.sweeper.callbacks.tracking.test_winner=false", f"tracking.root={output / 'mlruns'}",
    ]  # fmt: skip
    before = _processor_seconds()
    seconds_of(command, output, EYEGENDER_CACHE=str(output / "cache"), OMP_NUM_THREADS="1")
    taken = _processor_seconds() - before
    with sqlite3.connect(output / "sweep.db") as store:
        trials = list(store.execute(TRIALS))
    complete = [(value, int(depth), rate) for state, value, _, depth, rate in trials if state == "COMPLETE"]
    value, depth, rate = max(complete)
    print(f"  {changes}, seed {seed}: {taken:.0f} s, {value:.4f}", file=sys.stderr, flush=True)
    return Sweep(taken, value, (depth, rate), len(complete), {})


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyes", type=Path, help="class folders of real eyes; default: synthetic eyes")
    parser.add_argument("--weights", help="state dict of torchvision's MobileNet-V2; default: random weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="JSON file of what has finished")
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    options = parser.parse_args()
    options.size, options.epochs, options.views = 96, 10, 2
    if options.weights:
        options.weights = str(Path(options.weights).resolve())  # the commands run in other folders
    kept, found = Kept(options.keep, options), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = class_folders(folder / "eyes", options.images, options.eyes)
        # One seed of each way after the other, so that a file of some of them can be compared.
        for seed in range(options.seeds):
            for way, changes in WAYS.items():
                once = partial(run, changes, seed, root, folder / "ours", options)
                found.setdefault(way, []).append(kept.get(f"{way}, seed {seed}", once))
    rows = [("way", "processor s", "best validation accuracy", "trials to the end")]
    for way, sweeps in found.items():
        rows.append(
            (
                way, spread([sweep.seconds for sweep in sweeps], 0), spread([sweep.best for sweep in sweeps], 4),
                spread([float(sweep.to_the_end) for sweep in sweeps], 0),
            )
        )  # fmt: skip
    ours, every = (found[way] for way in WAYS)
    seconds = median(a.seconds / b.seconds for a, b in zip(ours, every, strict=True))
    points = 100 * (median(sweep.best for sweep in ours) - median(sweep.best for sweep in every))
    kind = "real" if options.eyes else "synthetic"
    text = (
        f"{options.trials} trials, {options.images} {kind} images at 96 pixels, {options.epochs} epochs, "
        f"{options.seeds} seed(s).\n\n{table(rows)}\n\nThe default takes {seconds:.2f} of the seconds (median over "
        f"seeds), and its median best is {points:+.2f} points away. Goals: {AIM_SECONDS} and -{AIM_POINTS}."
    )
    report("finetune", text, write=options.write)


if __name__ == "__main__":
    main()
