"""What a trial costs besides its objective, with several workers, in PostgreSQL and in SQLite.

Run: python -m benchmarks.study_overhead [--workers 8] [--trials 200]
Each line shows trials per second, wall-clock milliseconds per trial of the whole study, and CPU milliseconds per trial
(of all workers together, without their start). The last is the cost of a trial if each worker has a core of its own.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

APP = """
import json, os, time
import hydra
from pathlib import Path

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    with open(os.environ["MARKS"] + f"/{os.getpid()}", "a") as file:
        file.write(json.dumps([time.time(), time.process_time()]) + "\\n")
    return float(cfg.x) ** 2

if __name__ == "__main__":
    main()
"""


def measure(url: str, workers: int, trials: int, folder: Path) -> str:
    marks = folder / "marks"
    marks.mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    launcher = ["hydra/launcher=joblib"] if workers > 1 else []
    line = [
        sys.executable, "app.py", "-m", "hydra/sweeper=optuna_study", *launcher, f"hydra.sweeper.n_jobs={workers}",
        f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.storage=${oc.env:STUDY_STORAGE}",
        "hydra.sweeper.study_name=overhead", "+x=interval(-5,5)", "+y=interval(-5,5)",
    ]  # fmt: skip
    env = {**os.environ, "STUDY_STORAGE": url, "MARKS": str(marks), "PYTHONPATH": str(ROOT)}
    subprocess.run(line, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    seen = [[json.loads(mark) for mark in path.read_text().splitlines()] for path in marks.iterdir()]
    times = sorted(mark[0] for worker in seen for mark in worker)
    # From trial to trial: processes started and modules imported are no cost of a trial.
    wall = (times[-1] - times[0]) / (len(times) - 1)
    spent = sum(worker[-1][1] - worker[0][1] for worker in seen)
    between = sum(len(worker) - 1 for worker in seen)
    cost = spent / max(between, 1)
    return f"{1 / wall:6.1f} trials/s  {wall * 1000:6.1f} ms/trial  {cost * 1000:6.1f} processor ms/trial"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    sys.path.insert(0, str(ROOT))
    from tests.cluster.postgres import running

    with running() as server:
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    print(f"{options.trials} trials, {options.workers} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        print("sqlite     ", measure(f"sqlite:///{name}/study.db", options.workers, options.trials, folder / "sqlite"))
        with postgres() as url:
            print("PostgreSQL ", measure(url, options.workers, options.trials, folder / "pg"))
        print(f"in {time.monotonic() - begun:.0f} s, processes started included")


if __name__ == "__main__":
    main()
