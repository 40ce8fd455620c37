"""How long a command takes before it does any work: help, config, a misspelled key, and a run of one step.

Run: python -m benchmarks.startup [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
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
    report("startup", table(rows), write=options.write)


if __name__ == "__main__":
    main()
