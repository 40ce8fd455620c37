"""What a trial costs besides its objective, with several workers, in PostgreSQL and in SQLite, and in large studies.

Run: python -m benchmarks.study_overhead [--workers 8] [--trials 200] [--sizes 100 1000 5000 10000] [--many 64]
         [--write]
The first table shows trials per second, wall-clock milliseconds per trial of the whole study, and CPU milliseconds per
trial (of all workers together, without their start). The last is the cost of a trial if each worker has its own core.

The second table has CPU milliseconds per trial in studies that have this many trials already: with one worker in
SQLite, and with many in PostgreSQL. The many are threads of one process, each with a storage and queue of its own; they
claim, sample and finish trials, but compose no config and run no job.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import report, table

ROOT = Path(__file__).parents[1]
NAME = "overhead"

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


def measure(url: str, workers: int, trials: int, folder: Path) -> list[str]:
    seen = sweep(url, workers, trials, folder)
    times = sorted(mark[0] for worker in seen for mark in worker)
    # From trial to trial: processes started and modules imported are no cost of a trial.
    wall = (times[-1] - times[0]) / (len(times) - 1)
    return [f"{1 / wall:.1f}", f"{wall * 1000:.1f}", f"{cost_of(seen):.1f}"]


def sweep(url: str, workers: int, trials: int, folder: Path, *overrides: str) -> list[list[tuple[float, float]]]:
    """Run a sweep; for each worker, the times at which its trials began: on the clock and of its processor."""
    marks = Path(tempfile.mkdtemp(dir=folder))
    (folder / "app.py").write_text(APP)
    launcher = ["hydra/launcher=joblib"] if workers > 1 else []
    line = [
        sys.executable, "app.py", "-m", "hydra/sweeper=optuna_study", *launcher, f"hydra.sweeper.n_jobs={workers}",
        f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.storage=${oc.env:STUDY_STORAGE}",
        f"hydra.sweeper.study_name={NAME}", "+x=interval(-5,5)", "+y=interval(-5,5)", *overrides,
    ]  # fmt: skip
    env = {**os.environ, "STUDY_STORAGE": url, "MARKS": str(marks), "PYTHONPATH": str(ROOT)}
    subprocess.run(line, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return [[tuple(json.loads(mark)) for mark in path.read_text().splitlines()] for path in marks.iterdir()]


def cost_of(seen: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Processor milliseconds from one trial to the next, over all workers."""
    spent = sum(worker[-1][1] - worker[0][1] for worker in seen)
    return 1000 * spent / max(sum(len(worker) - 1 for worker in seen), 1)


# ---- in large studies


def fill(url: str, size: int) -> None:
    """Add complete trials like the study's first one until it has this many."""
    import sqlalchemy as sql

    from hydra_plugins.optuna_study._budget import COMPLETION
    from hydra_plugins.optuna_study._storage import with_driver

    engine, tables, chance = sql.create_engine(with_driver(url)), sql.MetaData(), random.Random(size)
    tables.reflect(engine)
    trials = tables.tables["trials"]
    with engine.begin() as connection:
        first = connection.execute(sql.select(trials).where(trials.c.number == 0)).mappings().one()
        numbers = range(connection.execute(sql.select(sql.func.count()).select_from(trials)).scalar_one(), size)
        rows = [{**first, "number": number} for number in numbers]
        connection.execute(trials.insert(), [_without_id(trials, row) for row in rows])
        known = connection.execute(sql.select(trials.c.number, trials.c.trial_id)).all()
        ids = {number: trial_id for number, trial_id in known if number in numbers}
        for name in ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes"):
            table = tables.tables[name]
            of_first = connection.execute(sql.select(table).where(table.c.trial_id == first["trial_id"])).mappings()
            rows = [{**row, "trial_id": ids[number]} for row in of_first for number in numbers]
            for row, number in zip(rows, itertools.cycle(numbers), strict=False):
                row |= {
                    key: chance.uniform(-5, 5) for key in ("param_value", "value") if isinstance(row.get(key), float)
                }
                if row.get("key") == COMPLETION:
                    row["value_json"] = str(number + 1)
            if rows:
                connection.execute(table.insert(), [_without_id(table, row) for row in rows])
    engine.dispose()


def _without_id(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The row without the primary key, which the database chooses."""
    return {key: value for key, value in row.items() if key not in table.primary_key.columns}


def growth(url: str, sizes: Sequence[int], trials: int, folder: Path, sampler: str) -> list[float]:
    """Processor milliseconds around a trial of one worker, in studies of these sizes."""
    folder.mkdir()
    sweep(url, 1, 2, folder)
    costs = []
    for size in sizes:
        fill(url, size)
        costs.append(cost_of(sweep(url, 1, size + trials, folder, f"hydra/sweeper/sampler={sampler}")))
        print(f"  {sampler}, {size} trials: {costs[-1]:.1f} ms", file=sys.stderr, flush=True)
    return costs


def growth_with_many(url: str, sizes: Sequence[int], trials: int, folder: Path, workers: int) -> list[float]:
    """Processor milliseconds per trial of this many workers without jobs, the database's own processes not counted."""
    from hydra_plugins.optuna_study._storage import Storage, storage_spec

    folder.mkdir()
    sweep(url, 1, 2, folder)
    stores = [Storage(storage_spec(url)) for _ in range(workers)]
    costs = []
    for size in sizes:
        fill(url, size)
        barrier, spent = threading.Barrier(workers + 1), 0.0
        threads = [
            threading.Thread(target=work, args=(stores[index], index, size + trials, barrier))
            for index in range(workers)
        ]
        for thread in threads:
            thread.start()
        barrier.wait()  # every worker has read the study
        spent = time.process_time()
        for thread in threads:
            thread.join()
        costs.append(1000 * (time.process_time() - spent) / trials)
        print(f"  {workers} workers, {size} trials: {costs[-1]:.1f} ms", file=sys.stderr, flush=True)
    for storage in stores:
        storage.close()
    return costs


def work(storage: Any, index: int, n_trials: int, barrier: threading.Barrier) -> None:
    """What a worker does about each of its trials, without the job."""
    import optuna

    from hydra_plugins.optuna_study._budget import Budget
    from hydra_plugins.optuna_study._heartbeat import WorkerId
    from hydra_plugins.optuna_study._optuna import finish, provide_trials
    from hydra_plugins.optuna_study._queue import Claim, TrialQueue
    from hydra_plugins.optuna_study._storage_wrappers import TrialCache

    queue = TrialQueue(storage, NAME, Budget(n_trials), WorkerId.of_this_process("many", index, 600.0))
    cache = TrialCache(storage.optuna)
    study = optuna.load_study(study_name=NAME, storage=cache, sampler=optuna.samplers.RandomSampler())
    cache.merge(queue.trials())
    barrier.wait()
    while (claimed := queue.claim()) is not Claim.DONE:
        if not isinstance(claimed, int):
            time.sleep(0.5)
            continue
        cache.cache(queue.claimed, queue.tally.number_without_retries(queue.claimed))
        provide_trials(study, cache.merge(queue.seen))
        trial = optuna.Trial(study, claimed)
        value = trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_float("y", -5, 5)
        with queue.finishing(claimed):
            finish(study, trial, optuna.trial.TrialState.COMPLETE, [value])


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
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 5000, 10000])
    parser.add_argument("--many", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="replace the section in benchmarks/RESULTS.md")
    options = parser.parse_args()
    sizes = sorted(options.sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        (folder / "sqlite").mkdir()
        (folder / "postgresql").mkdir()
        url = f"sqlite:///{name}/study.db"
        shared = [["storage", "trials per second", "ms per trial", "processor ms per trial"]]
        shared.append(["SQLite", *measure(url, options.workers, options.trials, folder / "sqlite")])
        with postgres() as url:
            shared.append(["PostgreSQL", *measure(url, options.workers, options.trials, folder / "postgresql")])
        text = [f"{options.trials} trials of {options.workers} workers:", table(shared)]
        if sizes:
            rows = [["processor ms around a trial, in a study of", *map(str, sizes)]]
            for sampler in ("random", "tpe"):
                url = f"sqlite:///{name}/{sampler}.db"
                costs = growth(url, sizes, options.trials, folder / sampler, sampler)
                rows.append([f"SQLite, 1 worker, sampler={sampler}", *(f"{cost:.1f}" for cost in costs)])
            if options.many:
                with postgres() as url:
                    costs = growth_with_many(url, sizes, options.trials, folder / "many", options.many)
                rows.append([f"PostgreSQL, {options.many} workers, no jobs", *(f"{cost:.1f}" for cost in costs)])
            text += ["From trial to trial, in studies that grow:", table(rows)]
        text.append(f"The whole command took {time.monotonic() - begun:.0f} s.")
        report("study_overhead", "\n\n".join(text), write=options.write)


if __name__ == "__main__":
    main()
