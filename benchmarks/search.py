"""How fast a sweep finds a good configuration: sweeps replayed in simulated time against recorded learning curves.

Run: python -m benchmarks.search [table=FILE.csv] [workers=1,8,64] [seeds=200] [policies=NAME,NAME] [overhead=1.0]
     [write=true]
Everything that decides is the sweeper's own: its queue, samplers, pruners and schedulers. Only training and the clock
are simulated. `table` is any file that benchmarks.record_curves could have written, also with other columns and numbers
of epochs. Between the recorded configurations the space is interpolated (benchmarks.curve_table says how), and each
training deviates from the mean as one of the recorded seeds did. 1, 8 and 64 workers run 48, 96 and 384 trials.
`overhead` is the seconds around a trial each time it starts or continues.

Printed first: how well the values after each epoch rank the trainings of the table (Spearman's correlation with the
best value that a training reaches). Then, per policy: seconds until the best configuration found is within 1.0 and 0.5
points of the table's best (median and 90th percentile over the seeds), its distance after a quarter, half and all of
the seconds that unpruned TPE takes, how often the final choice is more than 1 point off, and the seconds of all workers
together. Found is the trial with the best value so far; with a scheduler of ours the trial that the sweeper recommends.
"""

from __future__ import annotations

import os
import statistics
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from omegaconf import OmegaConf
from scipy.stats import spearmanr

from benchmarks.curve_table import AVERAGED, PLAIN, CurveTable
from benchmarks.measuring import ROOT, report, table
from benchmarks.replay import Policy, replay
from benchmarks.search_outcome import HEAD, Outcome, row
from hydra_plugins.optuna_study._schedulers._config import SCHEDULERS
from hydra_plugins.optuna_study.config import PRUNERS, SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Sequence

TRIALS = {1: 48, 8: 96, 64: 384}
REFERENCE = "TPE"
RANKED = 9  # epochs after which the ranking is printed, at most


def _policy(
    sampler: str, pruner: str = "nop", scheduler: str = "none", column: str = PLAIN, *, recommends: bool = False
) -> Policy:
    parts: list[dict[str, Any]] = []
    for name, known in ((sampler, SAMPLERS), (pruner, PRUNERS), (scheduler, SCHEDULERS)):
        preset = ROOT / "conf/hydra/sweeper" / ("sampler" if known is SAMPLERS else "pruner") / f"{name}.yaml"
        parts.append(asdict(known[name]()) if name in known else dict(OmegaConf.to_container(OmegaConf.load(preset))))  # type: ignore[arg-type]
    return Policy(*parts, column, recommends)


POLICIES = {
    "random": _policy("random"),
    REFERENCE: _policy("tpe"),
    "TPE on averaged weights": _policy("tpe", column=AVERAGED),
    "TPE + median": _policy("tpe", "median"),
    "TPE + Hyperband": _policy("tpe", "hyperband"),
    "TPE + successive halving": _policy("tpe", "successive_halving"),
    "TPE + Wilcoxon": _policy("tpe", "wilcoxon"),
    "early TPE + late median": _policy("early_tpe", "late_median"),
    "early TPE + freeze-thaw": _policy("early_tpe", scheduler="freeze_thaw", column=AVERAGED, recommends=True),
    "default: early TPE + promotion": _policy("early_tpe", scheduler="promotion", column=AVERAGED, recommends=True),
}


def outcomes(path: Path, name: str, workers: int, seeds: Sequence[int], overhead: float) -> list[Outcome]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    curves = CurveTable(path)
    return [replay(curves, POLICIES[name], workers, TRIALS[workers], seed, overhead) for seed in seeds]


def ranks(curves: CurveTable) -> str:
    """Spearman's correlation of the recorded values after each epoch with the best value of their training."""
    shown = sorted({round(epoch) for epoch in np.linspace(1, max(1, curves.epochs - 1), RANKED)})
    head = ("after epoch", *map(str, shown))
    rows = []
    for name, label in ((PLAIN, "plain weights"), (AVERAGED, "averaged weights")):
        recorded = curves.curves[name][curves.recorded]
        found = [spearmanr(recorded[:, epoch - 1], recorded.max(axis=1)).statistic for epoch in shown]
        rows.append((label, *(f"{value:.2f}" for value in found)))
    return table([head, *rows])


def compare(path: Path, workers: int, seeds: int, overhead: float, names: Sequence[str]) -> str:
    """The table of one number of workers."""
    best = CurveTable(path).best
    chunks = [range(start, seeds, os.cpu_count() or 1) for start in range(os.cpu_count() or 1)]
    found: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor() as pool:
        for name in dict.fromkeys((REFERENCE, *names)):
            parts = pool.map(partial(outcomes, path, name, workers, overhead=overhead), chunks)
            found[name] = [outcome for part in parts for outcome in part]
            print(f"  {workers} workers, {name}: done", file=sys.stderr, flush=True)
    reference = statistics.median(each.seconds for each in found[REFERENCE])
    rows = [row(name, found[name], best, reference) for name in names]
    title = f"{workers} workers, {TRIALS[workers]} trials, {seeds} seeds; best of the space {100 * best:.2f}%"
    return f"{title}; the median of unpruned TPE takes {reference:.0f} s.\n\n{table([HEAD, *rows])}"


def main() -> None:
    given = dict(part.partition("=")[::2] for part in sys.argv[1:])
    known = {"table", "workers", "seeds", "policies", "overhead", "write"}
    if given.keys() - known:
        print(__doc__, file=sys.stdout if "--help" in given else sys.stderr)
        raise SystemExit(0 if "--help" in given else 2)
    path = Path(given.get("table", ROOT / "benchmarks/curves/mobilenet_v2.csv"))
    names = given["policies"].split(",") if "policies" in given else list(POLICIES)
    workers = given.get("workers", "1,8,64").split(",")
    for name, chosen, possible in (("policies", names, POLICIES), ("workers", workers, map(str, TRIALS))):
        if unknown := set(chosen) - (allowed := set(possible)):
            raise SystemExit(f"{name} must be among {', '.join(sorted(allowed))}, got {', '.join(sorted(unknown))}")
    parts = [
        compare(path, int(each), int(given.get("seeds", "200")), float(given.get("overhead", "1.0")), names)
        for each in workers
    ]
    text = "\n\n".join((f"Table {path.name}.", ranks(CurveTable(path)), *parts))
    parts_of_heading = [path.stem, *(f"{name}={given[name]}" for name in ("workers", "policies") if name in given)]
    report("search", text, write=given.get("write") == "true", heading=f"search: {', '.join(parts_of_heading)}")


if __name__ == "__main__":
    main()
