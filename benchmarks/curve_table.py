"""Tables of recorded learning curves, and the search spaces that they span."""

from __future__ import annotations

import csv
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import expit, logit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Params = Mapping[str, float | int | str]

PLAIN, AVERAGED = "val_accuracy", "val_accuracy_ema"
MEASURED = {
    "seed",
    "epoch",
    "val_accuracy",
    "val_accuracy_ema",
    "val_loss",
    "val_loss_ema",
    "seconds",
    "seconds_stored",
}
INSIDE = (1e-4, 1 - 1e-4)  # the log odds of accuracies of 0 and 1 are not finite
POINTS = 500  # at least so many points of the space are looked at for its best one
LOG_FROM = 20  # a positive column that spans this factor is interpolated, and searched, on a log scale


@dataclass(frozen=True)
class Axis:
    """One column of the configuration.

    Args:
        values: its values in the table, sorted.
        is_integer: whether all of them are whole numbers.
        is_log: whether the column is on a log scale.
        choices: the values of a column of words, else none.
    """

    values: tuple[float, ...]
    is_integer: bool
    is_log: bool
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: list[str]) -> Axis:
        try:
            values = sorted({float(text) for text in texts})
        except ValueError:
            choices = tuple(sorted(set(texts)))
            return cls(tuple(map(float, range(len(choices)))), True, False, choices)
        is_log = values[0] > 0 and values[-1] >= LOG_FROM * values[0]
        return cls(tuple(values), all(value.is_integer() for value in values), is_log)

    def position(self, value: float | int | str) -> float:
        """Where a value lies, in steps of the grid."""
        if self.choices:
            return float(self.choices.index(str(value)))
        scale = math.log if self.is_log else float
        grid = [scale(each) for each in self.values]
        return float(np.interp(scale(float(value)), grid, np.arange(len(grid))))

    def distribution(self) -> BaseDistribution:
        if self.choices:
            return CategoricalDistribution(self.choices)
        low, high = self.values[0], self.values[-1]
        if self.is_integer:
            return IntDistribution(int(low), int(high), log=self.is_log)
        return FloatDistribution(low, high, log=self.is_log)

    def lattice(self, points: int) -> list[float | int | str]:
        """Values of the column, evenly spaced: all whole numbers or words, or so many points of an interval."""
        if self.choices:
            return list(self.choices)
        if self.is_integer and not self.is_log:
            return list(range(int(self.values[0]), int(self.values[-1]) + 1))
        grid = np.linspace(0, len(self.values) - 1, points)
        scale, back = (np.log, np.exp) if self.is_log else (np.asarray, np.asarray)
        found = back(np.interp(grid, np.arange(len(self.values)), scale(np.array(self.values))))
        return sorted({round(value) for value in found.tolist()}) if self.is_integer else found.tolist()


class CurveTable:
    """Learning curves over a grid of configurations, interpolated between its points.

    A training at a recorded point is one of its recorded seeds. Elsewhere it is the recorded training of a point
    around, chosen at random by nearness, moved by the difference of the two points' mean curves. Means and differences
    are of log odds, so that accuracies stay between 0 and 1, and are interpolated linearly between the points, on a log
    scale where the column has one.

    Args:
        path: CSV with the columns of the configuration, `seed`, `epoch` (from 1), `val_accuracy`, `val_accuracy_ema`,
            `val_loss`, `seconds` and `seconds_stored`. Each combination of values has all epochs of at least one seed.

    Raises:
        SystemExit: the file, a column or a combination of values is missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SystemExit(f"table must name a recorded table, got {path}; record one with benchmarks.record_curves")
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        missing = MEASURED - {"val_loss", "val_loss_ema"} - set(rows[0] if rows else ())
        if missing:
            raise SystemExit(f"{path} must have the columns {', '.join(sorted(missing))}")
        self.names = [name for name in rows[0] if name not in MEASURED]
        self.axes = {name: Axis.of([row[name] for row in rows]) for name in self.names}
        self.epochs = max(int(row["epoch"]) for row in rows)
        seeds = sorted({row["seed"] for row in rows})
        shape = (len(seeds), *(len(axis.values) for axis in self.axes.values()), self.epochs)
        self.curves = {name: np.full(shape, np.nan) for name in (PLAIN, AVERAGED)}
        price = {name: np.full(shape, np.nan) for name in ("seconds", "seconds_stored")}
        for row in rows:
            point = tuple(round(axis.position(row[name])) for name, axis in self.axes.items())
            index = (seeds.index(row["seed"]), *point, int(row["epoch"]) - 1)
            for name in (PLAIN, AVERAGED):
                self.curves[name][index] = float(row[name])
            for name, values in price.items():
                values[index] = float(row[name] or "nan")
        # Seeds that were recorded with all epochs, per point.
        self.recorded = np.all([np.isfinite(v).all(axis=-1) for v in (*self.curves.values(), *price.values())], axis=0)
        if not self.recorded.any(axis=0).all():
            raise SystemExit(
                f"{path} must have every combination of {', '.join(self.names)} with all its epochs, and their seconds"
            )
        for values in (*self.curves.values(), *price.values()):
            values[~self.recorded] = np.nan
        self.odds = {name: np.nanmean(logit(values.clip(*INSIDE)), axis=0) for name, values in self.curves.items()}
        self.qualities = {
            name: logit(np.nanmean(np.maximum.accumulate(values, axis=-1), axis=0).clip(*INSIDE))
            for name, values in self.curves.items()
        }
        self.prices = {name: np.log(np.nanmean(values, axis=(0, -1))) for name, values in price.items()}
        self.best = max(float(self.quality(point, name)[-1]) for point in self.lattice() for name in self.curves)

    def distributions(self) -> dict[str, BaseDistribution]:
        return {name: axis.distribution() for name, axis in self.axes.items()}

    def lattice(self) -> list[Params]:
        """At least `POINTS` points that cover the space evenly."""
        points = 8
        while True:
            axes = [axis.lattice(points) for axis in self.axes.values()]
            continuous = any(not axis.choices and not axis.is_integer for axis in self.axes.values())
            if math.prod(map(len, axes)) >= POINTS or not continuous or points > POINTS:
                return [dict(zip(self.names, values, strict=True)) for values in itertools.product(*axes)]
            points += 4

    def quality(self, params: Params, name: str) -> NDArray[np.float64]:
        """The best value up to each epoch, as a mean over the seeds, shape (epochs,)."""
        return np.asarray(expit(self._interpolate(self.qualities[name], params)))

    def seconds(self, params: Params, *, stored: bool = True) -> float:
        """Seconds per epoch at a point."""
        return float(np.exp(self._interpolate(self.prices["seconds_stored" if stored else "seconds"], params)))

    def train(self, params: Params, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """The curves of one training at a point; plain and averaged weights are of the same training."""
        around = self._around(params)
        point = around[rng.choice(len(around), p=[weight for _, weight in around])][0]
        seed = rng.choice(np.flatnonzero(self.recorded[(slice(None), *point)]))
        return {
            name: expit(logit(curves[(seed, *point)].clip(*INSIDE)) + self._interpolate(odds, params) - odds[point])
            for (name, curves), odds in zip(self.curves.items(), self.odds.values(), strict=True)
        }

    def _interpolate(self, values: NDArray[np.float64], params: Params) -> NDArray[np.float64]:
        return np.sum([weight * values[point] for point, weight in self._around(params)], axis=0)

    def _around(self, params: Params) -> list[tuple[tuple[int, ...], float]]:
        """The points of the grid around this one, with their weights, which add up to 1."""
        found: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
        for name, axis in self.axes.items():
            low, share = divmod(axis.position(params[name]), 1.0)
            parts = [(int(low), 1 - share), (int(low) + 1, share)]
            found = [((*point, i), weight * part) for point, weight in found for i, part in parts if part > 0]
        return found
