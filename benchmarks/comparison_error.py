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
    """A test set, and how similar the errors of the runs are on it.

    Args:
        runs: number of runs to compare.
        images: number of test images.
        per_person: number of images per person.
        shared: share of the latent variance that all runs have in common, which is the difficulty of image and person.
    """

    runs: int
    images: int
    per_person: int
    shared: float

    def simulate(self, rng: np.random.Generator, better_by: float) -> PairedRuns:
        """All pairs of the runs; the first run is better than the others, which are equal."""
        n_persons = self.images // self.per_person
        person_ids = np.arange(self.images) // self.per_person
        # The difficulty of an image and that of its person have equal weight.
        common = rng.normal(size=self.images) + rng.normal(size=n_persons)[person_ids]
        own = rng.normal(size=(self.runs, self.images)) + rng.normal(size=(self.runs, n_persons))[:, person_ids]
        latent = np.sqrt(self.shared / 2) * common + np.sqrt((1 - self.shared) / 2) * own
        accuracy = np.full((self.runs, 1), ACCURACY)
        accuracy[0] += better_by
        return PairedRuns(
            latent < norm.ppf(accuracy), [str(person) for person in person_ids], list(combinations(range(self.runs), 2))
        )


@dataclass(frozen=True)
class Measured:
    """Results of the repetitions of one setting.

    Args:
        wrong: number of repetitions in which equal runs were called different.
        wrong_beside_better: the same for the equal runs beside a better one.
        power: share of the pairs with the better run whose difference was detected.
        repetitions: number of repetitions of each.
    """

    wrong: int
    wrong_beside_better: int
    power: float
    repetitions: int


def measure(setting: Setting, repetitions: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    wrong = beside = 0
    detected = []
    for repetition in range(repetitions):
        for better_by in (0.0, BETTER_BY):
            runs = setting.simulate(rng, better_by)
            [p] = corrected_p_values([runs], n_resamples=resamples, seed=seed + repetition)
            significant = np.array(p) < SIGNIFICANCE_LEVEL
            with_better = np.array(runs.pairs).min(axis=1) == 0
            if better_by:
                ahead = runs.correct[0].mean() > runs.correct[1:].mean(axis=1)
                detected.append(float(np.mean(significant[with_better] & ahead)))
                beside += bool(significant[~with_better].any())
            else:
                wrong += bool(significant.any())
    return Measured(wrong, beside, mean(detected), repetitions)


def rows(runs: list[int], images: int, repetitions: int) -> list[list[str]]:
    lines = [
        [
            "runs",
            "images per person",
            "runs fail",
            "equal runs called different, 95% interval",
            "beside a better one",
            "power",
        ]
    ]
    for shared in (0.0, 0.7):
        for per_person in (1, 2):
            for count in runs:
                found = measure(Setting(count, images, per_person, shared), repetitions)
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
    parser.add_argument("--images", type=int, default=1800, help="number of test images")
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    text = (
        f"{options.repetitions:,} repetitions of each setting, {options.images:,} test images, accuracy "
        f"{100 * ACCURACY:.0f}%. Power: one run is {100 * BETTER_BY:.0f} points better than the others; the share of "
        f"its pairs with them in which the difference is detected, after the correction for all pairs.\n\n"
    )
    lines = rows(options.runs, options.images, options.repetitions)
    report("comparison_error", text + table(lines), write=options.write)


if __name__ == "__main__":
    main()
