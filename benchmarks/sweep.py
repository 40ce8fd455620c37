"""A sweep of 24 trials over depths 0, 1, 2, 4, 8 and learning rates: one worker of ours against baseline trials.

Run: python -m benchmarks.sweep [--eyes=FOLDER] [--weights FILE] [--quick] [--write]
         [--seeds 3] [--without-grid] [--keep FILE]
2,000 images at 224 pixels, 10 epochs. The baseline is the least that a sweeper that only hands out configurations can
cost: one process, imports paid once, nothing shared between trials. Ours runs in two ways, each time from an empty
cache: a grid with every trial to its end, unless left out, and the default of `+sweeps=finetune`, promotion of
averaged weights with early TPE over the same ranges, once per seed. With --plain-epochs, the baseline runs each depth
once for that many epochs; further epochs and learning rates of that depth are extrapolated as the mean of the epochs
after the first. To compare accuracies, it then trains our best configuration to the end, which is not counted. With
--keep, sweeps that have finished are kept in a JSON file, and the same command on the same processor goes on with the
others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks.depth0 import arguments, our_command, parsed, plain_seconds
from benchmarks.image_folders import class_folders
from benchmarks.measuring import machine, report, seconds_of, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

GRID, DEFAULT, PLAIN = "ours, every trial to its end", "ours, the default", "plain"
DEPTHS = (0, 1, 2, 4, 8)
AIM, AIM_DEFAULT = 15, 37
RATES = (3e-4, 1e-3, 2e-3, 3e-3, 5e-3)

# One row per finished trial: state, best validation accuracy, seconds, and depth and rate; Optuna stores a choice of
# the grid as an index into its list.
TRIALS = """
    SELECT
        trials.state, value, (julianday(datetime_complete) - julianday(datetime_start)) * 86400,
        depth.param_value, rate.param_value
    FROM trials JOIN trial_values USING (trial_id)
    JOIN trial_params AS depth ON depth.trial_id = trials.trial_id AND depth.param_name LIKE 'model.finetune_depth%'
    JOIN trial_params AS rate ON rate.trial_id = trials.trial_id AND rate.param_name LIKE 'model.lr%'
"""


@dataclass
class Sweep:
    """What a sweep took and found.

    Args:
        seconds: of the command.
        best: best validation accuracy of a trial that trained to its end.
        winner: its depth and rate.
        to_the_end: number of trials that trained to their end.
        of_depth: mean seconds of a trial per depth.
    """

    seconds: float
    best: float
    winner: tuple[int, float]
    to_the_end: int
    of_depth: dict[int, float]


def ours(way: str, seed: int, root: Path, output: Path, options: argparse.Namespace) -> Sweep:
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    command_line = our_command(root, options)
    start, choices = command_line[:3], command_line[3:]  # Hydra wants its flags before the overrides
    if way == GRID:
        space = [
            "hydra/sweeper/sampler=grid", f"model.finetune_depth=choice({','.join(map(str, DEPTHS))})",
            f"model.lr=choice({','.join(map(str, RATES))})",
        ]  # fmt: skip
    else:
        space = [
            "hydra/sweeper/sampler=early_tpe", f"hydra.sweeper.sampler.seed={seed}",
            "hydra/sweeper/scheduler=promotion", "model.ema=auto",
            f"model.finetune_depth=range({DEPTHS[0]},{DEPTHS[-1] + 1})",
            f"model.lr=tag(log,interval({RATES[0]},{RATES[-1]}))",
        ]  # fmt: skip
    command = [
        *start, "-m", *choices, "hydra/sweeper=optuna_study", *space, f"seed={seed}", "run_test=false",
        f"hydra.sweeper.n_trials={options.trials}", "hydra.sweeper.study_name=sweep",
        "hydra.sweeper.direction=maximize", "hydra.sweep.dir=sweep",
        "hydra.sweeper.storage=sqlite:///sweep.db", f"tracking.root={output / 'mlruns'}",
    ]  # fmt: skip
    taken = seconds_of(command, output, EYEGENDER_CACHE=str(output / "cache"))
    with sqlite3.connect(output / "sweep.db") as store:
        trials = list(store.execute(TRIALS))
    if way == GRID:
        trials = [(*rest, DEPTHS[int(d)], RATES[int(r)]) for *rest, d, r in trials]
    if len(trials) != options.trials:
        raise SystemExit(f"{len(trials)} of {options.trials} trials finished")
    to_the_end = [(value, int(depth), rate) for state, value, _, depth, rate in trials if state == "COMPLETE"]
    value, depth, rate = max(to_the_end)
    depths = sorted({int(depth) for *_, depth, _ in trials})
    of_depth = {each: mean(spent for _, _, spent, own, _ in trials if own == each) for each in depths}
    print(f"  {way}, seed {seed}: {taken:.1f} s, {value:.4f}", file=sys.stderr, flush=True)
    return Sweep(taken, value, (depth, rate), len(to_the_end), of_depth)


def plain(grid: list[tuple[int, float]], winner: tuple[int, float], root: Path, options: argparse.Namespace) -> Sweep:
    """The baseline: its grid, or some epochs of each depth and our best configuration."""
    if not options.plain_epochs:
        around, trials, best = plain_seconds(root, options, grid, test=False)
        return Sweep(around + sum(trials), best, winner, len(grid), {})
    depths = sorted({depth for depth, _ in grid})
    around, trials, _ = plain_seconds(root, options, [(depth, RATES[0]) for depth in depths], test=False)
    of_depth = dict(zip(depths, trials, strict=True))
    to_the_end = argparse.Namespace(**{**vars(options), "plain_epochs": 0})
    _, _, best = plain_seconds(root, to_the_end, [winner], test=False)
    return Sweep(around + sum(of_depth[depth] for depth, _ in grid), best, winner, len(grid), of_depth)


class Kept:
    """Sweeps that have finished, in a file of one set of options and one processor.

    Args:
        path: the file; None keeps nothing.
        options: the options of the command.
    """

    def __init__(self, path: Path | None, options: argparse.Namespace) -> None:
        self._path = path
        of_all = {"processor": machine(), **{name: str(value) for name, value in vars(options).items()}}
        # A file is valid for more seeds, too, and wherever the result is written.
        self._conditions = {name: value for name, value in of_all.items() if name not in {"keep", "write", "seeds"}}
        stored = json.loads(path.read_text()) if path is not None and path.exists() else {}
        if stored and stored["conditions"] != self._conditions:
            raise SystemExit(f"{path} is of other conditions, got {stored['conditions']}; name another file")
        self._sweeps = {name: _sweep_of(values) for name, values in stored.get("sweeps", {}).items()}

    def get(self, name: str, run: Callable[[], Sweep]) -> Sweep:
        """The sweep of this name, which runs unless it is kept."""
        if name not in self._sweeps:
            self._sweeps[name] = run()
            if self._path is not None:
                sweeps = {name: asdict(sweep) for name, sweep in self._sweeps.items()}
                self._path.write_text(json.dumps({"conditions": self._conditions, "sweeps": sweeps}, indent=1))
        return self._sweeps[name]


def _sweep_of(values: dict[str, Any]) -> Sweep:
    depth, rate = values.pop("winner")
    of_depth = {int(depth): seconds for depth, seconds in values.pop("of_depth").items()}
    return Sweep(**values, winner=(depth, rate), of_depth=of_depth)


def main() -> None:
    parser = arguments(10)
    parser.add_argument("--keep", type=Path, help="JSON file of what has finished")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-grid", action="store_true")
    options = parsed(parser)
    kept = Kept(options.keep, options)
    grid = [(depth, rate) for rate in RATES for depth in DEPTHS][: options.trials]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = class_folders(folder / "eyes", options.images, options.eyes)
        found: dict[str, list[Sweep]] = {}
        if not options.without_grid:
            found[GRID] = [kept.get(GRID, lambda: ours(GRID, 0, root, folder / "ours", options))]
        found[DEFAULT] = [
            kept.get(f"{DEFAULT}, seed {seed}", partial(ours, DEFAULT, seed, root, folder / "ours", options))
            for seed in range(options.seeds)
        ]
        winner = max((sweep for sweeps in found.values() for sweep in sweeps), key=lambda sweep: sweep.best).winner
        found[PLAIN] = [kept.get(PLAIN, lambda: plain(grid, winner, root, options))]
    rows = [("way", "seconds", "plain / this", "best validation accuracy", "trials to the end")]
    baseline = found[PLAIN][0].seconds
    for way, sweeps in found.items():
        rows.append(
            (
                way, spread([sweep.seconds for sweep in sweeps], 1),
                spread([baseline / sweep.seconds for sweep in sweeps], 1),
                spread([sweep.best for sweep in sweeps], 3),
                spread([float(sweep.to_the_end) for sweep in sweeps], 0),
            )
        )  # fmt: skip
    ran = (
        f"The baseline (plain) ran {options.plain_epochs} epochs of each depth; the rest is extrapolated. Its accuracy "
        "is that of our best configuration. "
    ) * bool(options.plain_epochs)
    kind = "real" if options.eyes else "synthetic"
    head = (
        f"{options.trials} trials, {options.images} {kind} images at {options.size} pixels, {options.epochs} epochs, "
        f"{options.seeds} seeds of the default. {ran}Goals: {AIM} times with every trial to its end, {AIM_DEFAULT} by "
        "default."
    )
    parts = [
        f"- {way}: " + ", ".join(f"{seconds:.0f} s at depth {depth}" for depth, seconds in sweeps[0].of_depth.items())
        for way, sweeps in found.items() if sweeps[0].of_depth
    ]  # fmt: skip
    report("sweep", f"{head}\n\n{table(rows)}\n\nMean time per trial:\n\n" + "\n".join(parts), write=options.write)


if __name__ == "__main__":
    main()
