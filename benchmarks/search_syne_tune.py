"""Syne Tune's schedulers on the tables that benchmarks.search replays, through Syne Tune's own simulator.

Run, in an environment of its own: python -m benchmarks.search_syne_tune seconds=SECONDS [table=FILE.csv] [workers=1]
         [seeds=50] [policies=NAME,NAME] [write=true]
That environment needs `syne-tune[basic,gpsearchers,kde]==0.13.0` (the newest versions have no promotion), `numpy<2`,
`optuna` and `scipy`. Trials report the averaged weights, as ours do. A sweep ends after so many simulated `seconds`:
give those that unpruned TPE takes, which benchmarks.search prints. The simulator adds the real seconds of the
scheduler's own decisions, so measure on a quiet machine. The columns are those of benchmarks.search.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.simulator_backend.simulator_backend import SimulatorConfig
from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
from syne_tune.blackbox_repository import UserBlackboxBackend
from syne_tune.blackbox_repository.blackbox import Blackbox
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.constants import ST_TUNER_TIME
from syne_tune.optimizer.baselines import ASHA, BOHB, MOBSTER

from benchmarks.curve_table import AVERAGED, CurveTable
from benchmarks.measuring import ROOT, report, table
from benchmarks.search_outcome import HEAD, Outcome, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

POLICIES = {
    "Syne Tune ASHA (promotion)": partial(ASHA, type="promotion"),
    "Syne Tune BOHB (promotion)": partial(BOHB, type="promotion"),
    "Syne Tune MOBSTER (promotion)": partial(MOBSTER, type="promotion"),
}
OVERHEAD = 1.0  # seconds around a trial each time it starts or continues, as in benchmarks.search


def domain(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return choice(list(distribution.choices))
    if isinstance(distribution, IntDistribution):
        return (lograndint if distribution.log else randint)(distribution.low, distribution.high)
    return (loguniform if distribution.log else uniform)(distribution.low, distribution.high)


class Curves(Blackbox):
    """The table as Syne Tune's simulator asks for it: values and elapsed seconds of all epochs of a configuration."""

    def __init__(self, curves: CurveTable, seed: int) -> None:
        space = {name: domain(distribution) for name, distribution in curves.distributions().items()}
        epochs = {"epoch": randint(1, curves.epochs)}
        super().__init__(configuration_space=space, fidelity_space=epochs, objectives_names=["value", "elapsed"])
        self.curves, self.rng = curves, np.random.default_rng(seed)
        self.trained: dict[tuple, NDArray[np.float64]] = {}

    @property
    def fidelity_values(self) -> NDArray[np.int64]:
        return np.arange(1, self.curves.epochs + 1)

    def _objective_function(self, configuration: dict[str, Any], **_: Any) -> NDArray[np.float64]:
        key = tuple(sorted(configuration.items()))
        if key not in self.trained:  # a trial that continues asks again
            self.trained[key] = self.curves.train(configuration, self.rng)[AVERAGED]
        elapsed = self.curves.seconds(configuration) * np.arange(1, self.curves.epochs + 1)
        return np.stack([self.trained[key], elapsed], axis=1)


class Incumbents(SimulatorCallback):
    """Keeps each better value with its simulated time, and the seconds that workers trained."""

    def __init__(self, curves: CurveTable) -> None:
        super().__init__()
        self.curves, self.outcome, self.best = curves, Outcome(), -np.inf

    def on_trial_result(self, trial: Any, result: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        now, value, epoch = float(result[ST_TUNER_TIME]), float(result["value"]), int(result["epoch"])
        params = {name: trial.config[name] for name in self.curves.names}
        if value > self.best:
            self.best = value
            self.outcome.incumbents.append((now, float(self.curves.quality(params, AVERAGED)[epoch - 1])))
        self.outcome.seconds = max(self.outcome.seconds, now)
        self.outcome.worker_seconds += self.curves.seconds(params)
        self.outcome.epochs += 1


def sweep(path: Path, name: str, workers: int, seconds: float, seed: int) -> Outcome:
    logging.disable(logging.WARNING)
    curves = CurveTable(path)
    backend = UserBlackboxBackend(
        blackbox=Curves(curves, seed), elapsed_time_attr="elapsed", max_resource_attr="epochs", tuner_sleep_time=0.2,
        simulator_config=SimulatorConfig(delay_start=OVERHEAD),
    )  # fmt: skip
    space = {**backend.blackbox.configuration_space, "epochs": curves.epochs}
    scheduler = POLICIES[name](
        space, metric="value", mode="max", resource_attr="epoch", max_resource_attr="epochs", random_seed=seed,
        search_options={"debug_log": False},
    )  # fmt: skip
    incumbents = Incumbents(curves)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        Tuner(
            trial_backend=backend, scheduler=scheduler, n_workers=workers, sleep_time=0, save_tuner=False,
            stop_criterion=StoppingCriterion(max_wallclock_time=seconds), callbacks=[incumbents],
            print_update_interval=1e9, results_update_interval=1e9, trial_backend_path=folder,
        ).run()  # fmt: skip
    return incumbents.outcome


def compare(path: Path, workers: int, seeds: int, seconds: float, names: Sequence[str]) -> str:
    best, rows = CurveTable(path).best, []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in names:
            found = list(pool.map(partial(sweep, path, name, workers, seconds), range(seeds)))
            rows.append(row(name, found, best, seconds))
    title = f"Table {path.name}, {workers} workers, {seeds} seeds, {seconds:.0f} s; best of the space {100 * best:.2f}%"
    return f"{title}.\n\n{table([HEAD, *rows])}"


def main() -> None:
    given = dict(part.partition("=")[::2] for part in sys.argv[1:])
    if given.keys() - {"table", "workers", "seeds", "seconds", "policies", "write"} or "seconds" not in given:
        print(__doc__, file=sys.stdout if "--help" in given else sys.stderr)
        raise SystemExit(0 if "--help" in given else 2)
    path = Path(given.get("table", ROOT / "benchmarks/curves/mobilenet_v2.csv"))
    names = given["policies"].split(",") if "policies" in given else list(POLICIES)
    if unknown := set(names) - POLICIES.keys():
        raise SystemExit(f"policies must be among {', '.join(POLICIES)}, got {', '.join(sorted(unknown))}")
    workers = int(given.get("workers", "1"))
    text = compare(path, workers, int(given.get("seeds", "50")), float(given["seconds"]), names)
    heading = f"search_syne_tune: {path.stem}, workers={workers}"
    report("search_syne_tune", text, write=given.get("write") == "true", heading=heading)


if __name__ == "__main__":
    main()
