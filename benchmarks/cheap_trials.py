"""What a head-only trial costs in a warm worker: its epochs, what surrounds them, and a hundred such trials.

Run: python -m benchmarks.cheap_trials [--eyes=FOLDER] [--weights FILE] [--quick] [--write]
A sweep of `eyegender.train` on 2,000 images at 96 pixels, depth 0, 10 epochs, stored activations, one torch thread per
worker. The first trial of a worker, which stores the activations and warms everything up, is left out. The bare loop
trains a linear layer with dropout on as many vectors of the same size in plain PyTorch, with the same optimizer and
schedule, and computes the accuracy on the validation images; it has no metrics, records or checkpoints. It runs before
and after the sweep, and the mean counts. Seconds around the epochs are those from the end of one trial to the end of
the next, without the epochs: sampling, composing the config, setting up, tracking, what is written at the end. The last
column is how many times as fast trials would be if any number of heads were trained in one pass over the stored
vectors, and the epochs of all but one were free.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import torch
from torch import nn

from benchmarks.image_folders import class_folders
from benchmarks.measuring import environment, report, spread, table
from eyegender.training.callbacks import stored_history
from eyegender.training.checkpoints import load_checkpoint

CHANNELS, VIEWS, BATCH = 1280, 4, 64
EPOCHS = 10


def bare_seconds(train: int, val: int, folder: Path) -> float:
    """Seconds of the epochs of a linear head over stored vectors in plain PyTorch."""
    generator = np.random.default_rng(0)
    path = folder / "vectors.bin"
    generator.standard_normal((train * VIEWS, CHANNELS), np.float32).astype(np.float16).tofile(path)
    rows = np.memmap(path, np.float16, "r", shape=(train * VIEWS, CHANNELS))
    labels = torch.from_numpy(generator.integers(0, 2, train)).float()
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(CHANNELS, 1))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.05)
    batches = -(-train // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=EPOCHS * batches + 1)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        head.train()
        for batch in np.array_split(generator.permutation(train), batches):
            vectors = torch.from_numpy(rows[batch * VIEWS + generator.integers(0, VIEWS, len(batch))]).float()
            loss = nn.functional.binary_cross_entropy_with_logits(head(vectors)[:, 0], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        head.eval()
        with torch.no_grad():
            found = head(torch.from_numpy(rows[:val].astype(np.float32)))[:, 0] > 0
            float((found == (labels[:val] > 0)).float().mean())
    return time.perf_counter() - began


def sweep(folder: Path, options: argparse.Namespace, *, workers: int, trials: int, ema: float | None) -> float:
    """Seconds of a whole sweep, its start included."""
    folder.mkdir()
    launcher = ["hydra/launcher=joblib", f"hydra.sweeper.n_jobs={workers}"] if workers > 1 else []
    command = [
        sys.executable, "-m", "eyegender.train", "-m", "hydra/sweeper=optuna_study", *launcher,
        "hydra.sweeper.direction=maximize", f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.study_name=cheap",
        f"hydra.sweeper.storage=sqlite:///{folder}/optuna.db", f"hydra.sweep.dir={folder}/sweep",
        f"tracking.root={folder}/mlruns", "data=folder", f"data.root={options.root / 'images'}", "data.split.by=file",
        f"data.split.file={options.root / 'split.csv'}", "data.size=96", f"model.weights={options.weights or 'null'}",
        "features=on", f"features.views={VIEWS}", f"trainer.batch_size={BATCH}", "trainer=cpu", "trainer.threads=1",
        f"trainer.max_epochs={EPOCHS}", "run_test=false", "model.finetune_depth=0", "model.lr=interval(1e-4,1e-2)",
        f"model.ema={'null' if ema is None else ema}",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=environment(EYEGENDER_CACHE=str(options.cache), OMP_NUM_THREADS="1"),
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began


def measured(folder: Path) -> tuple[list[float], list[float]]:
    """Per warm trial of a sweep with one worker: seconds of its epochs, and seconds around them."""
    study = optuna.load_study(study_name="cheap", storage=f"sqlite:///{folder}/optuna.db")
    ended = sorted(study.trials, key=lambda trial: trial.number)
    epochs, around = [], []
    for before, trial in pairwise(ended):
        assert before.datetime_complete is not None
        assert trial.datetime_complete is not None
        history = stored_history(load_checkpoint(Path(trial.user_attrs["output_dir"]) / "checkpoints" / "last.ckpt"))
        epochs.append(sum(row["epoch_seconds"] for row in history))
        around.append((trial.datetime_complete - before.datetime_complete).total_seconds() - epochs[-1])
    return epochs, around


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyes", type=Path, help="class folders of real eyes; default: synthetic eyes")
    parser.add_argument("--weights", help="state dict of torchvision's MobileNet-V2; default: random weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="400 images, six trials")
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    options = parser.parse_args()
    if options.weights:
        options.weights = str(Path(options.weights).resolve())  # the commands run in other folders
    if options.quick:
        options.images, options.trials = 400, 6
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        options.cache = place / "cache"
        options.root = class_folders(place / "eyes", options.images, options.eyes)
        parts = [line.rpartition(",")[2] for line in (options.root / "split.csv").read_text().split()[1:]]
        sizes = parts.count("train"), parts.count("val")
        rows = [("a warm trial", "epochs, s", "epochs / bare loop", "around the epochs, s", "most that sharing saves")]
        for label, ema in (("plain weights", None), ("averaged weights", 1 - BATCH / sizes[0])):
            folder = place / label.split()[0]
            bare = [bare_seconds(*sizes, place)]
            sweep(folder, options, workers=1, trials=min(10, options.trials), ema=ema)
            bare.append(bare_seconds(*sizes, place))
            epochs, around = measured(folder)
            ratio = statistics.median(epochs) / statistics.mean(bare)
            shared = 1 + statistics.median(epochs) / statistics.median(around)
            rows.append((label, spread(epochs), f"{ratio:.2f}", spread(around), f"{shared:.2f}"))
        seconds = sweep(place / "many", options, workers=options.workers, trials=options.trials, ema=None)
    text = (
        f"{options.images} {'real' if options.eyes else 'synthetic'} images at 96 pixels, depth 0, {EPOCHS} epochs; "
        f"{sizes[0]} to train, {sizes[1]} to validate; {os.cpu_count()} cores. Goals: 2 times a bare loop, 0.3 s "
        f"around the epochs, 60 s for 100 trials.\n\n{table(rows)}\n\n"
        f"{options.trials} trials with {options.workers} workers, start included: {seconds:.1f} s."
    )
    report("cheap_trials", text, write=options.write)


if __name__ == "__main__":
    main()
