"""A sweep on one GPU with one worker and with two, through the command line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.gpu_sizes import config
from benchmarks.measuring import environment
from eyegender.training.build import build_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.gpu_sizes import Sizes


def command(sizes: Sizes, output: Path) -> list[str]:
    return [
        sys.executable, "-m", "eyegender.train", "-m", "data=synthetic", f"data.n={sizes.trial_images}",
        f"data.size={min(size for _, size in sizes.cases)}", "model.weights=null", "trainer.max_epochs=3",
        "trainer.progress=none", "run_test=false", "hydra/sweeper=optuna_study", "hydra/sweeper/sampler=grid",
        "model.finetune_depth=choice(4,all)", "model.lr=choice(3e-4,5e-4,1e-3,2e-3,3e-3,5e-3)",
        f"hydra.sweeper.n_trials={sizes.trials}", "hydra.sweeper.study_name=gpu", "hydra.sweeper.direction=maximize",
        "hydra.sweep.dir=sweep", "hydra.sweeper.storage=sqlite:///sweep.db", f"tracking.root={output / 'mlruns'}",
    ]  # fmt: skip


def run(sizes: Sizes, output: Path, workers: int) -> tuple[float, float]:
    """Seconds of the commands, and from the start of the first trial to the end of the last."""
    output.mkdir()
    threads = os.environ.get("OMP_NUM_THREADS", "4")
    env = environment(EYEGENDER_CACHE=str(output.parent / "cache"), OMP_NUM_THREADS=threads)
    began, started = time.perf_counter(), []
    for worker in range(workers):
        with (output / f"worker{worker}.txt").open("w") as log:
            started.append(subprocess.Popen(command(sizes, output), cwd=output, env=env, stdout=log, stderr=log))
    codes = [process.wait() for process in started]
    seconds = time.perf_counter() - began
    for worker, code in enumerate(codes):
        if code:
            lines = (output / f"worker{worker}.txt").read_text().strip().splitlines() or ["no output"]
            raise RuntimeError(f"a worker ended with {code}: {lines[-1][:300]}")
    with sqlite3.connect(output / "sweep.db") as db:
        finished, trials = db.execute(
            "SELECT COUNT(*), (julianday(MAX(datetime_complete)) - julianday(MIN(datetime_start))) * 86400 "
            "FROM trials WHERE state = 'COMPLETE'"
        ).fetchone()
    if finished != sizes.trials:
        raise RuntimeError(f"{finished} of {sizes.trials} trials finished")
    return seconds, float(trials)


def draw_images(sizes: Sizes, folder: Path) -> None:
    """Fill the cache, so that no trial has to."""
    case = min(sizes.cases, key=lambda case: case[1])
    build_data(config(case, folder, synthetic=sizes.trial_images)).setup("fit")


def sweep(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """The same sweep with two workers and with one."""
    yield (
        "table", f"A sweep of {sizes.trials} trials on one device",
        ("workers", "seconds", "seconds of its trials", "trials per minute", "trials: one worker / this"),
    )  # fmt: skip
    draw_images(sizes, folder)
    alone = 0.0
    for workers in (1, 2):
        seconds, trials = run(sizes, folder / f"sweep{workers}", workers)
        alone = alone or trials
        pace = f"{60 * sizes.trials / trials:.0f}"
        yield "row", (str(workers), f"{seconds:.1f}", f"{trials:.1f}", pace, f"{alone / trials:.2f}")
    yield (
        "note",
        f"{sizes.trial_images} synthetic images, three epochs per trial, every trial tracked and its model logged. "
        "A worker is a command; its start is in the second column, not in the third.",
    )
