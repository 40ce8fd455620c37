"""A sweep of 24 trials over depths 0, 1, 2, 4, 8 and learning rates: one worker of ours against baseline trials.

Run: python -m benchmarks.sweep [--eyes=FOLDER] [--weights FILE] [--quick] [--write]
2,000 images at 224 pixels, 10 epochs. The baseline is the least that a sweeper that only hands out configurations can
cost: one process, imports paid once, nothing shared between trials. Ours runs twice, each time from an empty cache:
once with every trial to its end, and once with median pruning from the second epoch on. With --plain-epochs, the
baseline runs each depth once for that many epochs; further epochs and learning rates of that depth are extrapolated as
the mean of the epochs after the first. To compare accuracies, it then trains our best configuration to the end, which
is not counted.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
from pathlib import Path
from statistics import mean

from benchmarks.depth0 import arguments, our_command, parsed, plain_seconds
from benchmarks.image_folders import class_folders
from benchmarks.measuring import alternate, ratios, report, seconds_of, spread, table

OURS, PRUNED, PLAIN = "ours", "ours, pruned", "plain"
DEPTHS = (0, 1, 2, 4, 8)
AIM = 15
RATES = (3e-4, 1e-3, 2e-3, 3e-3, 5e-3)

# One row per finished trial: state, last validation accuracy, seconds, and depth and rate as indices into their lists,
# as Optuna stores a choice.
TRIALS = """
    SELECT
        trials.state, value, (julianday(datetime_complete) - julianday(datetime_start)) * 86400,
        depth.param_value, rate.param_value
    FROM trials JOIN trial_values USING (trial_id)
    JOIN trial_params AS depth ON depth.trial_id = trials.trial_id AND depth.param_name LIKE 'model.finetune_depth%'
    JOIN trial_params AS rate ON rate.trial_id = trials.trial_id AND rate.param_name LIKE 'model.lr%'
"""


def main() -> None:
    parser = arguments(10)
    parser.add_argument("--trials", type=int, default=24)
    options = parsed(parser)
    grid = [(depth, rate) for rate in RATES for depth in DEPTHS][: options.trials]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = class_folders(folder / "eyes", options.images, options.eyes)
        best: dict[str, float] = {}
        winner: list[float] = []
        pruned: list[int] = []
        of_depth: dict[str, dict[int, float]] = {OURS: {}, PRUNED: {}, PLAIN: {}}

        def ours(way: str) -> float:
            output = folder / "ours"
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            command_line = our_command(root, options)
            start, choices = command_line[:3], command_line[3:]  # Hydra wants its flags before the overrides
            command = [
                *start, "-m", *choices, "hydra/sweeper=optuna_study", "hydra/sweeper/sampler=grid",
                *(["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_warmup_steps=2"] if way == PRUNED else []),
                f"model.finetune_depth=choice({','.join(map(str, DEPTHS))})",
                f"model.lr=choice({','.join(map(str, RATES))})", "run_test=false",
                f"hydra.sweeper.n_trials={options.trials}", "hydra.sweeper.study_name=sweep",
                "hydra.sweeper.direction=maximize", "hydra.sweep.dir=sweep",
                "hydra.sweeper.storage=sqlite:///sweep.db", f"tracking.root={output / 'mlruns'}",
            ]  # fmt: skip
            taken = seconds_of(command, output, EYEGENDER_CACHE=str(output / "cache"))
            with sqlite3.connect(output / "sweep.db") as store:
                trials = [(*rest, DEPTHS[int(d)], RATES[int(r)]) for *rest, d, r in store.execute(TRIALS)]
            if len(trials) != options.trials:
                raise SystemExit(f"{len(trials)} of {options.trials} trials finished")
            to_the_end = [(value, depth, rate) for state, value, _, depth, rate in trials if state == "COMPLETE"]
            best[way], *configuration = max(to_the_end)
            if way == OURS:
                winner[:] = configuration
            else:
                pruned[:] = [len(trials) - len(to_the_end)]
            for depth in {depth for *_, depth, _ in trials}:
                of_depth[way][depth] = mean(spent for _, _, spent, own, _ in trials if own == depth)
            return taken

        def plain() -> float:
            if not options.plain_epochs:
                around, trials, best[PLAIN] = plain_seconds(root, options, grid, test=False)
                return around + sum(trials)
            depths = sorted({depth for depth, _ in grid})
            around, trials, _ = plain_seconds(root, options, [(depth, RATES[0]) for depth in depths], test=False)
            of_depth[PLAIN] = dict(zip(depths, trials, strict=True))
            to_the_end = argparse.Namespace(**{**vars(options), "plain_epochs": 0})
            _, _, best[PLAIN] = plain_seconds(root, to_the_end, [(int(winner[0]), winner[1])], test=False)
            return around + sum(of_depth[PLAIN][depth] for depth, _ in grid)

        ways = {OURS: lambda: ours(OURS), PRUNED: lambda: ours(PRUNED), PLAIN: plain}
        taken = alternate(ways, options.rounds)
    rows = [("way", "seconds", "plain / this", "best validation accuracy")]
    for way, values in taken.items():
        reached = f"{best[way]:.3f}" + " with ours' best configuration" * bool(way == PLAIN and options.plain_epochs)
        rows.append((way, spread(values, 1), spread(ratios(taken[PLAIN], values), 1), reached))
    ran = f"The baseline (plain) ran {options.plain_epochs} epochs of each depth; the rest is extrapolated. " * bool(
        options.plain_epochs
    )
    kind = "real" if options.eyes else "synthetic"
    head = (
        f"{options.trials} trials, {options.images} {kind} images at {options.size} pixels, {options.epochs} epochs. "
        f"{ran}Goal: {AIM} times."
    )
    parts = [
        f"- {way}: " + ", ".join(f"{seconds:.0f} s at depth {depth}" for depth, seconds in sorted(each.items()))
        for way, each in of_depth.items() if each
    ]  # fmt: skip
    means = f"{pruned[0]} trials were pruned. Mean time per trial:\n\n" + "\n".join(parts)
    report("sweep", f"{head}\n\n{table(rows)}\n\n{means}", write=options.write)


if __name__ == "__main__":
    main()
