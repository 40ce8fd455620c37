"""Whether a process keeps growing while it trains many runs or works on a study with many trials.

Run: python -m benchmarks.steadiness [--runs 100] [--trials 1000]
Prints the resident memory, open file handles and threads of the process as it goes, and what the second half added; in
the first half, libraries load and caches fill.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from omegaconf import DictConfig

SMALLEST = ("data.n=40", "trainer.max_epochs=1", "model.finetune_depth=1", "trainer.threads=1")

TOO_MUCH_MIB = 100  # more than this in the second half makes the exit code 1


@dataclass(frozen=True)
class Held:
    """What the process holds at one moment."""

    memory_mib: float
    handles: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(resident / 2**20, len(list(Path("/proc/self/fd").iterdir())), threading.active_count())


class Watch:
    """Looks at the process now and then while something is done `number` times, and prints what it sees."""

    def __init__(self, what: str, number: int) -> None:
        self.what, self.number, self.began = what, number, time.monotonic()
        self.seen: dict[int, Held] = {}

    def look(self, done: int) -> None:
        if done == 1 or done % max(1, self.number // 10) == 0:
            held = self.seen[done] = Held.now()
            print(
                f"{self.what} {done:5}  {held.memory_mib:7.0f} MiB  {held.handles:4} handles  {held.threads:3} threads"
                f"  {time.monotonic() - self.began:6.0f} s",
                file=sys.__stdout__,  # what is done prints elsewhere
                flush=True,
            )

    def flat(self) -> bool:
        seen = [self.seen[done] for done in sorted(self.seen)]
        middle, end = seen[len(seen) // 2], seen[-1]
        memory, handles = end.memory_mib - middle.memory_mib, end.handles - middle.handles
        threads = end.threads - middle.threads
        print(
            f"{self.what}: {memory:+.0f} MiB, {handles:+} handles, {threads:+} threads in the second half", flush=True
        )
        return memory < TOO_MUCH_MIB and handles <= 0


def runs(number: int, folder: Path) -> bool:
    """Complete training runs, tracked in one local store."""
    from eyegender.training.run import train
    from tests.composing import tiny_config

    root = f"tracking.root={folder / 'mlruns'}"
    watch = Watch("run", number)
    for done in range(1, number + 1):
        config = tiny_config(*SMALLEST, root, f"seed={done}")
        with redirect_stdout(StringIO()):
            train(config, folder / f"run{done}")
        watch.look(done)
    return watch.flat()


def trials(number: int, folder: Path) -> bool:
    """One study in this process, on sqlite."""
    from tests.unit.optuna_study.sweeping import multirun

    watch = Watch("trial", number)
    count = itertools.count(1)

    def task(cfg: DictConfig) -> float:
        watch.look(next(count))
        return float(cfg.x) ** 2

    storage, folder = f"hydra.sweeper.storage=sqlite:///{folder / 'study.db'}", folder / "sweep"
    with redirect_stdout(StringIO()):
        multirun(
            task, f"hydra.sweeper.n_trials={number}", storage, f"hydra.sweep.dir={folder}", "hydra.job.chdir=false"
        )
    return watch.flat()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    print(f"{options.runs} runs, {options.trials} trials, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EYEGENDER_CACHE"] = str(folder / "cache")
        steady = [trials(options.trials, folder)] if options.trials else []
        steady += [runs(options.runs, folder)] if options.runs else []
    sys.exit(0 if all(steady) else 1)


if __name__ == "__main__":
    main()
