"""How often `compare` calls equal runs different, and how often it detects a run that is 3 points better.

Run: python -m benchmarks.comparison_error
Write the table into benchmarks/RESULTS.md as well: python -m benchmarks.comparison_error --write

Simulated runs on simulated images go through the correction that `compare` uses. Runs are either independent, or they
mostly fail on the same images and persons, as networks do. Half of the settings have two images per person, and a run
tends to be right or wrong on both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import combinations
from statistics import mean

import numpy as np
from scipy.stats import norm

from benchmarks.measuring import report, table
from eyegender.comparison.significance import SIGNIFICANCE_LEVEL, PairedRuns, corrected_p_values
from eyegender.models.intervals import wilson_interval

ACCURACY, BETTER_BY = 0.9, 0.03
RESAMPLES = 999


@dataclass(frozen=True)
class Setting:
    """A test set and what runs have in common on it.

    Args:
        runs: how many are compared.
        pictures: on which they were tested.
        per_person: pictures of one person.
        shared: share of the latent variance that all runs have in common: how hard the picture and the person are.
    """

    runs: int
    pictures: int
    per_person: int
    shared: float

    def draw(self, rng: np.random.Generator, better_by: float) -> PairedRuns:
        """All pairs of the runs; the first run is better than the others, which are equal."""
        people = self.pictures // self.per_person
        owners = np.arange(self.pictures) // self.per_person
        # What belongs to a picture and what to its person weigh the same.
        common = rng.normal(size=self.pictures) + rng.normal(size=people)[owners]
        own = rng.normal(size=(self.runs, self.pictures)) + rng.normal(size=(self.runs, people))[:, owners]
        latent = np.sqrt(self.shared / 2) * common + np.sqrt((1 - self.shared) / 2) * own
        accuracy = np.full((self.runs, 1), ACCURACY)
        accuracy[0] += better_by
        return PairedRuns(
            latent < norm.ppf(accuracy), [str(owner) for owner in owners], list(combinations(range(self.runs), 2))
        )


@dataclass(frozen=True)
class Measured:
    """What repetitions of one setting came to.

    Args:
        wrong: in how many of them equal runs were called different.
        wrong_beside_better: the same among the equal runs, where one run was better.
        power: of the pairs of the better run and an equal one, the share that was told.
        repetitions: how many there were of each.
    """

    wrong: int
    wrong_beside_better: int
    power: float
    repetitions: int


def measure(setting: Setting, repetitions: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    wrong = beside = 0
    told = []
    for repetition in range(repetitions):
        for better_by in (0.0, BETTER_BY):
            runs = setting.draw(rng, better_by)
            [p] = corrected_p_values([runs], n_resamples=resamples, seed=seed + repetition)
            significant = np.array(p) < SIGNIFICANCE_LEVEL
            with_better = np.array(runs.pairs).min(axis=1) == 0
            if better_by:
                ahead = runs.correct[0].mean() > runs.correct[1:].mean(axis=1)
                told.append(float(np.mean(significant[with_better] & ahead)))
                beside += bool(significant[~with_better].any())
            else:
                wrong += bool(significant.any())
    return Measured(wrong, beside, mean(told), repetitions)


def rows(runs: list[int], pictures: int, repetitions: int) -> list[list[str]]:
    lines = [
        [
            "runs",
            "pictures per person",
            "runs fail",
            "equal runs told apart, 95% interval",
            "beside a better one",
            "power",
        ]
    ]
    for shared in (0.0, 0.7):
        for per_person in (1, 2):
            for count in runs:
                found = measure(Setting(count, pictures, per_person, shared), repetitions)
                how = "together" if shared else "independently"
                beside = _share(found.wrong_beside_better, repetitions) if count > 2 else "-"
                line = [str(count), str(per_person), how, _share(found.wrong, repetitions), beside]
                lines.append([*line, f"{100 * found.power:.0f}%"])
                print(" | ".join(lines[-1]), flush=True)
    return lines


def _share(count: int, repetitions: int) -> str:
    value, low, high = wilson_interval(count, repetitions)
    return f"{100 * value:.1f}% ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[2, 11, 40])
    parser.add_argument("--pictures", type=int, default=1800, help="of a test set")
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    text = (
        f"{options.repetitions:,} repetitions of each setting, {options.pictures:,} test images, accuracy "
        f"{100 * ACCURACY:.0f}%. Power: one run is {100 * BETTER_BY:.0f} points better than the others; the share of "
        f"its pairs with them in which the difference is detected, after the correction for all pairs.\n\n"
    )
    lines = rows(options.runs, options.pictures, options.repetitions)
    report("comparison_error", text + table(lines), write=options.write)


if __name__ == "__main__":
    main()
