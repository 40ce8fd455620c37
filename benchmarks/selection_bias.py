"""How well the best value of a study is corrected for having been chosen, in simulated studies with a known truth.

Run: python -m benchmarks.selection_bias [--studies 1000] [--write]
A study has 20 to 200 trials and a validation set of 1,500 images of about 480 persons. Whether a trial classifies an
image correctly depends on its true accuracy, on the difficulty of the person and of the image, which all trials share,
and on chance. The true accuracies are alike (94% for all trials), or one trial is the clear winner (95% against 92%),
or they are a smooth function of two hyperparameters with a maximum of 95%. Bias is the mean of the estimated minus the
true accuracy of the trial with the best value; coverage is how often the 95% interval contains the true accuracy.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from benchmarks.measuring import report, table
from eyegender.studies.selection_bias import by_person, corrected_best

if TYPE_CHECKING:
    from numpy.typing import NDArray

CASES = ("all trials alike", "one clear winner", "a smooth surface")
IMAGES, PERSONS = 1500, 500
SHARED = 0.8  # correlation of two trials' latent results for an image


def true_accuracies(case: str, trials: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if case == CASES[0]:
        return np.full(trials, 0.94)
    if case == CASES[1]:
        return np.where(np.arange(trials) == rng.integers(trials), 0.95, 0.92)
    x, y = rng.uniform(-1, 1, (2, trials))
    return 0.95 - 0.06 * x**2 - 0.03 * (y - 0.3) ** 2


def simulate(case: str, seed: int) -> tuple[float, float, float, float]:
    """One study.

    Returns:
        The value minus the truth, the corrected value minus the truth, whether the corrected interval contains the
        truth, and half of its width.
    """
    rng = np.random.default_rng((CASES.index(case), seed))
    trials = int(np.exp(rng.uniform(np.log(20), np.log(200))))
    truth = true_accuracies(case, trials, rng)
    persons = rng.integers(PERSONS, size=IMAGES)
    difficulty = 0.6 * rng.normal(size=PERSONS)[persons] + 0.8 * rng.normal(size=IMAGES)
    latent = SHARED * difficulty + np.sqrt(1 - SHARED**2) * rng.normal(size=(trials, IMAGES))
    correct = latent < norm.ppf(truth)[:, None]
    accuracies = correct.mean(axis=1)
    best = int(accuracies.argmax())
    found = corrected_best(*by_person(correct, [str(person) for person in persons]))
    covered = float(found.low <= truth[best] <= found.high)
    return accuracies[best] - truth[best], found.value - truth[best], covered, (found.high - found.low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="replace the section in benchmarks/RESULTS.md")
    options = parser.parse_args()
    rows = [
        ("true accuracies", "bias of the best value", "bias corrected", "coverage of the interval", "its half width")
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for case in CASES:
            found = np.array(list(pool.map(partial(simulate, case), range(options.studies), chunksize=10)))
            raw, bias, coverage, half = 100 * found.mean(axis=0)
            rows.append((case, f"{raw:+.2f}", f"{bias:+.2f}", f"{coverage:.1f}%", f"{half:.2f}"))
    text = f"{options.studies} simulated studies each; bias and width in percentage points.\n\n{table(rows)}"
    report("selection_bias", text, write=options.write)


if __name__ == "__main__":
    main()
