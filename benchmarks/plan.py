"""The seconds that the plan of a sweep promises, against those that its trials take.

Run: python -m benchmarks.plan [--eyes=FOLDER] [--weights FILE] [--quick] [--write]
One worker tries every combination of a few depths and two learning rates, 2,000 images at 96 pixels, 10 epochs. The
cache is empty, so that everything the plan stores is computed. Planned and actual seconds are those of the trials
together; the start of the command is not counted. On a CPU, the seconds of the processor are shown as well, divided by
the number of threads: on a machine that does something else at the same time, the plan should be compared with them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.depth0 import our_command
from benchmarks.image_folders import class_folders
from benchmarks.measuring import report, seconds_of, table

DEPTHS, RATES = (0, 2, 8, 16), (3e-4, 1e-3)
AIM = 0.2
CALLBACK = "+hydra.sweeper.callbacks.tracking"

_TRIALS = """
    SELECT param_value, (julianday(datetime_complete) - julianday(datetime_start)) * 86400, trials.number
    FROM trials JOIN trial_params ON trials.trial_id = trial_params.trial_id
    WHERE param_name LIKE 'model.finetune_depth%' AND state = 'COMPLETE'
"""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = class_folders(folder / "eyes", options.images, options.eyes)
        output = folder / "ours"
        output.mkdir()
        environment = {"EYEGENDER_CACHE": str(folder / "cache")}
        command = _command(root, options, output)
        only_plan = _processor_seconds(lambda: seconds_of([*command, "hydra.sweeper.plan=true"], output, **environment))
        # Measured as in a first sweep.
        shutil.rmtree(folder / "cache")
        began = time.perf_counter()
        processor = _processor_seconds(lambda: seconds_of(command, output, **environment))
        wall = time.perf_counter() - began
        with sqlite3.connect(output / "sweep.db") as store:
            trials = [(DEPTHS[int(depth)], seconds, number) for depth, seconds, number in store.execute(_TRIALS)]
            [plan] = store.execute("SELECT value_json FROM study_user_attributes WHERE key = 'activation_plan'")
        epochs = {number: _epoch_seconds(output / "sweep" / str(number)) for *_, number in trials}
    if len(trials) != len(DEPTHS) * len(RATES):
        raise SystemExit(f"{len(trials)} of {len(DEPTHS) * len(RATES)} trials finished")
    planned = json.loads(plan[0])
    actual = sum(seconds for _, seconds, _ in trials)
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    on_processor = (processor - only_plan) / threads
    rows = [("seconds of all trials", "seconds", "planned / this")]
    rows += [
        (what, f"{seconds:.1f}", f"{planned['seconds'] / seconds:.2f}")
        for what, seconds in (
            ("planned", planned["seconds"]),
            ("actual", actual),
            (f"of the processor, by {threads} threads", on_processor),
        )
    ]
    by_depth = [("depth", "planned epoch s", "actual epoch s", "actual trial s")]
    for depth in DEPTHS:
        own = [(seconds, epochs[number]) for each, seconds, number in trials if each == depth]
        by_depth.append(
            (
                str(depth),
                f"{planned['epoch_seconds'][''][str(depth)]:.2f}",
                " ".join(f"{epoch:.2f}" for _, epoch in own),
                " ".join(f"{seconds:.1f}" for seconds, _ in own),
            )
        )
    kind = "real" if options.eyes else "synthetic"
    head = (
        f"{len(trials)} trials, {options.images} {kind} images at {options.size} pixels, {options.epochs} epochs. "
        f"Goal: within {AIM:.0%}. The whole command took {wall:.1f} s."
    )
    report("plan", f"{head}\n\n{table(rows)}\n\n{table(by_depth)}", write=options.write)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyes", type=Path, help="class folders of real eyes; default: synthetic eyes")
    parser.add_argument("--weights", help="state dict of torchvision's MobileNet-V2; default: random weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="600 images, 5 epochs")
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    options = parser.parse_args()
    if options.weights:
        options.weights = str(Path(options.weights).resolve())  # the command runs in another folder
    if options.quick:
        options.images, options.epochs = 600, 5
    return options


def _command(root: Path, options: argparse.Namespace, output: Path) -> list[str]:
    start, choices = (line := our_command(root, options))[:3], line[3:]
    return [
        *start, "-m", *choices, "hydra/sweeper=optuna_study", "hydra/sweeper/sampler=grid",
        f"model.finetune_depth=choice({','.join(map(str, DEPTHS))})", f"model.lr=choice({','.join(map(str, RATES))})",
        "run_test=false", f"hydra.sweeper.n_trials={len(DEPTHS) * len(RATES)}", "hydra.sweeper.study_name=plan",
        "hydra.sweeper.direction=maximize", "hydra.sweep.dir=sweep", "hydra.sweeper.storage=sqlite:///sweep.db",
        f"tracking.root={output / 'mlruns'}", f"{CALLBACK}._target_=eyegender.studies.study_run.StudyRun",
        f"{CALLBACK}.experiment=eyegender", f"{CALLBACK}.uri=null", f"{CALLBACK}.root={output / 'mlruns'}",
        f"{CALLBACK}.test_winner=false",
    ]  # fmt: skip


def _processor_seconds(run: object) -> float:
    """Processor seconds of the commands that `run` starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert callable(run)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _epoch_seconds(trial: Path) -> float:
    """The mean of a trial's epochs after the first."""
    from eyegender.training.callbacks import stored_history
    from eyegender.training.checkpoints import load_checkpoint

    history = stored_history(load_checkpoint(trial / "checkpoints" / "last.ckpt"))
    seconds = [row["epoch_seconds"] for row in history[1:]]
    return sum(seconds) / len(seconds)


if __name__ == "__main__":
    main()
