"""How long a command takes before it does any work: help, config, a misspelled key, and a run of one step by its parts.

Run: python -m benchmarks.startup [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import alternate, environment, report, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = ("data.n=60", "data.size=32", "model.weights=null", "trainer=cpu", "trainer.max_steps=1", "trainer.max_epochs=1")
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "--help": ("-m", "eyegender.train", "--help"),
    "--cfg job": ("-m", "eyegender.train", "--cfg", "job"),
    "a misspelt key": ("-m", "eyegender.train", "model.lrr=1"),
    "import torch, lightning, mlflow": ("-c", "import torch, pytorch_lightning, mlflow"),
    "a run of one step": ("-m", "eyegender.train", *TINY, "run_test=false"),
    "a run of one step, tested": ("-m", "eyegender.train", *TINY),
}

# Runs the command in `sys.argv` and writes when each part of a training began, as seconds since the epoch.
MARK = """
import importlib, json, runpy, sys, time
marks, target = [], sys.argv.pop(1)
def mark(module, name, label, owner=None):
    holder = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    function = getattr(holder, name)
    def marked(*args, **kwargs):
        marks.append((label, time.time()))
        if name == "parse":
            result = function(*args, **kwargs)
            mark("eyegender.training.run", "train", "check the store")
            for part, called in (("prepare_network", "build the network"), ("_read_data", "read the data"),
                                 ("_fit", "fit"), ("_test_and_write", "test, figures and files")):
                mark("eyegender.training.run", part, called)
            mark("eyegender.tracking.tracker", "close", "wait for the tracking store", "Tracker")
            return result
        try:
            return function(*args, **kwargs)
        finally:
            if name == "close":
                marks.append(("end of Python", time.time()))
                open(target, "w").write(json.dumps(marks))
    setattr(holder, name, marked)
mark("eyegender.core.schema", "parse", "import torch and Lightning")
runpy.run_module("eyegender.train", run_name="__main__", alter_sys=True)
"""


def parts(folder: str, rounds: int) -> list[tuple[str, str]]:
    """Seconds of each part of a tested run of one step."""
    taken: dict[str, list[float]] = {}
    marks = Path(folder) / "marks.json"
    for _ in range(rounds):
        began = time.time()
        subprocess.run(
            [sys.executable, "-c", MARK, str(marks), *TINY], cwd=folder, check=True, capture_output=True,
            env=environment(EYEGENDER_CACHE=f"{folder}/cache"),
        )  # fmt: skip
        times = [("Python, Hydra and the config", began), *json.loads(marks.read_text()), ("", time.time())]
        for (label, start), (_, end) in itertools.pairwise(times):
            taken.setdefault(label, []).append(end - start)
    return [(label, spread(values)) for label, values in taken.items()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def timed(command: tuple[str, ...]) -> Callable[[], float]:
            def run() -> float:
                began = time.perf_counter()
                env = environment(EYEGENDER_CACHE=f"{folder}/cache")
                subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, check=False)
                return time.perf_counter() - began

            return run

        ways = {name: timed(command) for name, command in COMMANDS.items()}
        for way in ways.values():
            way()  # bytecode, caches and the tracking store are there from the second start on
        taken = alternate(ways, options.rounds)
        rows = [("command", "seconds"), *((name, spread(values)) for name, values in taken.items())]
        inside = [("part of a run of one step, tested", "seconds"), *parts(folder, options.rounds)]
    note = "MLflow is imported by the thread that sends to the store, beside fit, test and files."
    report("startup", f"{table(rows)}\n\n{table(inside)}\n\n{note}", write=options.write)


if __name__ == "__main__":
    main()
