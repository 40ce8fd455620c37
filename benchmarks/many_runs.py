"""What the commands that read a store cost when it has many runs: processor seconds at several sizes, start included.

Run: python -m benchmarks.many_runs [--sizes 300 1000 3000 10000] [--commands ...] [--page 200] [--profile FOLDER]
         [--write]
One tiny run is trained, and its rows in the store are copied under other ids, with other metrics and with predictions
of their own, as trials of one study. Measured are: `compare`, which chooses the best trial; `compare pick=all`, whose
page has the best 200; `promote` of the trained run; and `study` on as many Optuna trials. The last table is a page of
runs that were all tested.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import environment, report, table
from eyegender.tracking.local_store import adapt_addresses
from eyegender.tracking.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

STUDY = "many"
TINY = (
    "data.n=60",
    "data.size=32",
    "model.weights=null",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.progress=none",
)
IMAGES = {"val": 214, "test": 536}  # of the paper's 2,681 images
COMMANDS = ("compare", "compare pick=all", "promote", "study")
_OF_RUN = ("params", "tags", "latest_metrics", "metrics")


class Store:
    """A folder with a store of one trained run and `size` copies, and an Optuna study with as many trials.

    Args:
        folder: an empty folder.
        trained: folder of a store with one run.
        size: number of copies.
        tested: whether the copies are tested runs, or trials that are not.
    """

    def __init__(self, folder: Path, trained: Path, size: int, *, tested: bool = False) -> None:
        shutil.copytree(trained, folder)
        self.folder, self.tested, self.chance = folder, tested, random.Random(size)
        self.artifacts = folder / "mlruns" / "artifacts"
        adapt_addresses(folder / "mlruns" / "mlflow.db")
        with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
            [(self.run_id, uri)] = database.execute("SELECT run_uuid, artifact_uri FROM runs").fetchall()
            self.from_uri = str(uri).rpartition(f"/{self.run_id}")[0]
            with database:
                parent = self._add(database, "study", {"study": "parent", "study.name": STUDY}, {}, only_tags=True)
                for number in range(size):
                    self._add_copy(database, number, parent)
        if not tested:
            _add_study(folder / "optuna.db", size)

    def _add_copy(self, database: sqlite3.Connection, number: int, parent: str) -> None:
        skill = self.chance.uniform(0.8, 1.6)
        accuracy = 0.5 + 0.2 * skill + self.chance.uniform(-0.02, 0.02)
        rate = 10 ** self.chance.uniform(-4, -1)
        tags = {"overrides": f"model.lr={rate}"}
        if not self.tested:
            tags |= {"study.name": STUDY, "trial.number": str(number), "mlflow.parentRunId": parent}
        run_id = self._add(database, f"trial {number}", tags, {"model.lr": str(rate), "seed": str(number)})
        value = "UPDATE latest_metrics SET value = ? WHERE run_uuid = ? AND key = 'val_best/accuracy'"
        database.execute(value, (accuracy, run_id))
        if self.tested:
            model = f"m-{run_id}"
            _copy(
                database, "logged_models", {"source_run_id": self.run_id}, {"model_id": model, "source_run_id": run_id}
            )
            link = {"input_uuid": uuid.uuid4().hex, "source_id": run_id, "destination_id": model}
            _copy(database, "inputs", {"source_id": self.run_id, "source_type": "RUN_OUTPUT"}, link)
        else:
            database.execute("DELETE FROM latest_metrics WHERE run_uuid = ? AND key LIKE 'test/%'", (run_id,))
        artifacts = self.artifacts / run_id / "artifacts"
        artifacts.mkdir(parents=True)
        shutil.copy(self.artifacts / self.run_id / "artifacts" / "config.yaml", artifacts)
        for part in ("val", "test") if self.tested else ("val",):
            (artifacts / f"{part}_predictions.json").write_text(json.dumps(predictions(part, skill, number).to_table()))

    def _add(
        self,
        database: sqlite3.Connection,
        name: str,
        tags: dict[str, str],
        params: dict[str, str],
        *,
        only_tags: bool = False,
    ) -> str:
        """Copy the rows of the trained run under another id, with these tags and parameters instead of its own."""
        run_id = uuid.UUID(int=self.chance.getrandbits(128)).hex
        uri = f"{self.from_uri}/{run_id}/artifacts"
        _copy(database, "runs", {"run_uuid": self.run_id}, {"run_uuid": run_id, "name": name, "artifact_uri": uri})
        for kind in () if only_tags else _OF_RUN:
            _copy(database, kind, {"run_uuid": self.run_id}, {"run_uuid": run_id})
        if not only_tags:
            link = {"input_uuid": uuid.uuid4().hex, "destination_id": run_id}
            _copy(database, "inputs", {"destination_id": self.run_id, "source_type": "DATASET"}, link)
        for kind, values in (("tags", tags | {"mlflow.runName": name}), ("params", params)):
            rows = [(key, value, run_id) for key, value in values.items()]
            database.executemany(f"INSERT OR REPLACE INTO {kind} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
        return run_id

    def seconds(self, command: str, *overrides: str, profile: Path | None = None) -> float:
        """Processor seconds of a command, those of its threads and children included."""
        line = [sys.executable]
        if profile is not None:
            profile.mkdir(parents=True, exist_ok=True)
            line += ["-m", "cProfile", "-o", str(profile / f"{command}-{len(list(profile.iterdir()))}.prof")]
        line += ["-m", f"eyegender.{command}", *overrides]
        before = _spent()
        env = environment(OMP_NUM_THREADS="1", EYEGENDER_CACHE=str(self.folder / "cache"))
        done = subprocess.run(line, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{' '.join(line)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return _spent() - before


def predictions(part: str, skill: float, seed: int) -> Predictions:
    """Predictions for images of two per person; a greater skill gives a higher accuracy."""
    n = IMAGES[part]
    rng, names = np.random.default_rng(seed), tuple(f"{part}/{i:05d}.jpg" for i in range(n))
    labels = (np.arange(n) // 2) % 2
    scores = 1 / (1 + np.exp(-rng.normal((2 * labels - 1) * skill, 1.0)))
    return Predictions(names, names, labels.astype(np.int64), scores, tuple(f"p{i // 2}" for i in range(n)))


def trained_store(folder: Path) -> Path:
    """A store with one tiny run that was trained and tested."""
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "eyegender.train", *TINY, "output=run", "tracking.root=mlruns"]
    env = environment(OMP_NUM_THREADS="1", EYEGENDER_CACHE=str(folder / "cache"))
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the run ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return folder


def measure(
    folder: Path, trained: Path, sizes: Sequence[int], wanted: Sequence[str], profile: Path | None
) -> list[list[str]]:
    """Processor seconds of each command at each size, and how they grow from the last size but one to the last."""
    taken: dict[str, list[float]] = {}
    for size in sizes:
        store = Store(folder / str(size), trained, size)
        commands: dict[str, tuple[str, ...]] = {  # as in COMMANDS
            "compare": (f"study={STUDY}", "latency=false", "output=one"),
            "compare pick=all": (f"study={STUDY}", "pick=all", "latency=false", "output=all"),
            "promote": (f"run={store.run_id}",),
            "study": (f"name={STUDY}", "storage=sqlite:///optuna.db", "output=report"),
        }
        for name, overrides in ((name, commands[name]) for name in wanted):
            own = ("tracking.root=mlruns",) if name != "study" else ()
            place = None if profile is None else profile / str(size)
            taken.setdefault(name, []).append(store.seconds(name.split()[0], *overrides, *own, profile=place))
            print(f"  {size} runs: {name} {taken[name][-1]:.1f} s", file=sys.stderr, flush=True)
        shutil.rmtree(folder / str(size))
    rows = [["command", *(f"{size:,} runs" for size in sizes), "per 1,000 more"]]
    for name, values in taken.items():
        more = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2]) * 1000 if len(sizes) > 1 else float("nan")
        rows.append([f"`{name}`", *(f"{value:.1f}" for value in values), f"{more:.2f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000, 10000])
    parser.add_argument("--commands", nargs="+", default=COMMANDS, choices=COMMANDS)
    parser.add_argument("--page", type=int, default=200)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    profile = None if options.profile is None else options.profile.absolute()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trained = trained_store(folder / "trained")
        first = table(measure(folder, trained, options.sizes, options.commands, profile))
        page = Store(folder / "page", trained, options.page, tested=True)
        place = None if profile is None else profile / "page"
        taken = page.seconds(
            "compare", "pick=all", "latency=false", "output=page", "tracking.root=mlruns", profile=place
        )
    second = f"A page of {options.page} tested runs: {taken:.1f} s."
    report("many_runs", f"Processor seconds, start included.\n\n{first}\n\n{second}", write=options.write)


def _copy(database: sqlite3.Connection, name: str, where: dict[str, str], changes: dict[str, Any]) -> None:
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
    values = ", ".join("?" if column in changes else column for column in columns)
    conditions = " AND ".join(f"{column} = ?" for column in where)
    database.execute(
        f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values} FROM {name} WHERE {conditions}",
        (*(changes[column] for column in columns if column in changes), *where.values()),
    )


def _add_study(path: Path, size: int) -> None:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name=STUDY, direction="maximize")
    chance, space = random.Random(0), {"model.lr": FloatDistribution(1e-4, 1e-1, log=True)}
    study.add_trials(
        create_trial(
            params={"model.lr": 10 ** chance.uniform(-4, -1)}, distributions=dict(space), value=chance.random(),
            intermediate_values={step: chance.random() for step in range(5)},
        )
        for _ in range(size)
    )  # fmt: skip


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
