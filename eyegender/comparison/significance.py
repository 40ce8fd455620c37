"""Tests for a difference between models on the same images: McNemar's for one pair, corrected p-values for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binom, binomtest

from eyegender.models.intervals import person_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

SIGNIFICANCE_LEVEL = 0.05
N_RESAMPLES = 9999
_CHUNK, _PAIRS = 500, 200  # resamples and pairs at a time: 800 kB


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test on n shared images.

    Args:
        n: number of shared images.
        only_first: number of images that only the first model classifies correctly.
        only_second: number of images that only the second model classifies correctly.
        p_value: two-sided exact p-value of the hypothesis that both models are correct equally often.
        persons: number of persons, if the test is at the level of persons; None if it is at the level of images.
    """

    n: int
    only_first: int
    only_second: int
    p_value: float
    persons: int | None = None

    @property
    def difference(self) -> float:
        """Accuracy of the first model minus accuracy of the second, in -1..1."""
        return (self.only_first - self.only_second) / self.n

    def verdict(self, first: str, second: str, p_value: float | None = None) -> str:
        """The result as a sentence; `p_value` replaces the test's own if it is corrected for several pairs."""
        p = self.p_value if p_value is None else p_value
        better, worse, points = (
            (first, second, self.difference) if self.difference >= 0 else (second, first, -self.difference)
        )
        evidence = (
            f"{self.only_first + self.only_second} of {self.n:,} images are classified differently, p {format_p(p)}"
        )
        if p >= SIGNIFICANCE_LEVEL:
            return f"No evidence of a difference between {first} and {second} ({evidence})."
        return f"{better} is more accurate than {worse} by {100 * points:.1f} points ({evidence})."


def mcnemar(
    first_correct: ArrayLike, second_correct: ArrayLike, persons: Sequence[str] | NDArray[np.str_] | None = None
) -> McNemar:
    """Test whether two models differ, given whether each is correct on each of the same N images.

    Under the null hypothesis, an image that exactly one model classifies correctly is a fair coin toss: the exact
    binomial test. If the persons are known, there is one toss per person, because the images of one person tend to be
    right or wrong together. The toss decides the sign of the difference between the two models' numbers of correct
    images of that person. With one image per person, both tests are the same. Sources: Q. McNemar, Psychometrika 12
    (1947) 153-157; for clusters, N. A. Obuchowski, Statistics in Medicine 17 (1998) 1495-1507, here with the exact
    distribution under flipped signs (R. A. Fisher, The Design of Experiments, 1935, chapter 3) instead of a normal
    approximation.

    Args:
        first_correct: whether the first model classifies each image correctly, shape (N,).
        second_correct: the same for the second model, shape (N,).
        persons: person on each of the N images; None if unknown, so that every image counts as one person.

    Raises:
        ValueError: there are no images, or the lengths differ.
    """
    first, second = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"both models need the same images, at least one, got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if persons is None:
        n_discordant = only_first + only_second
        p = float(binomtest(only_first, n_discordant).pvalue) if n_discordant else 1.0
        return McNemar(len(first), only_first, only_second, p)
    person_ids = person_numbers(persons, len(first))
    differences = np.bincount(person_ids, weights=first.astype(np.int64) - second).round().astype(np.int64)
    return McNemar(len(first), only_first, only_second, _sign_flip_p(differences), len(differences))


def format_p(p: float) -> str:
    """A p-value for a sentence: `= 0.032`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


class PairedRuns(NamedTuple):
    """Runs that were tested on the same N images, and the pairs of them to test.

    Args:
        correct: whether each of R runs classifies each image correctly, shape (R, N).
        persons: person on each of the N images; None if unknown.
        pairs: positions of the two runs of each pair.
    """

    correct: NDArray[np.bool_]
    persons: Sequence[str] | None
    pairs: Sequence[tuple[int, int]]


def corrected_p_values(
    test_sets: Sequence[PairedRuns], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> list[list[float]]:
    """The p-value of each pair, corrected for all pairs: the chance of even one wrong claim stays at 5%.

    This is the step-down procedure of Westfall and Young. Every resample flips the sign of all differences on a person,
    as `mcnemar` does, with the same coin for all pairs. Therefore runs that fail on the same persons cost less than
    independent ones, which a correction by the number of pairs could not take into account. A pair is judged by the
    largest of the clustered McNemar statistics (difference / root of the summed squares over persons) among the pairs
    that are no clearer than itself. Sources: P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing (1993),
    chapter 2; J. P. Romano, M. Wolf, Econometrica 73 (2005) 1237-1282. Each test set has its own coins, which is
    conservative if test sets share persons (T. Royen, Far East J. Theor. Stat. 48 (2014) 139-145).
    `benchmarks.comparison_error` measures the error rate and the power.

    No p-value is below 1 / (n_resamples + 1). A single pair needs no correction: use `mcnemar`.

    Args:
        test_sets: one entry per set of test images.
        n_resamples: number of resamples; each flips all signs once.
        seed: seed of the sign flips; equal seeds give equal p-values.

    Returns:
        One list per test set, in the order of its pairs.
    """
    rng = np.random.default_rng(seed)
    statistics = [_Statistics(test_set) for test_set in test_sets]
    if not statistics:
        return []
    observed = np.concatenate([one.observed for one in statistics])
    # From the least clear pair upwards.
    order = np.argsort(observed, kind="stable")
    # A sum that is equal up to rounding counts as equal.
    limits = observed[order] * (1 - 1e-9)
    # Positions of the runs of each pair among the runs of all test sets.
    starts = np.cumsum([0, *(one.sums.shape[1] for one in statistics)])
    first, second = (
        np.concatenate([start + getattr(one, side) for start, one in zip(starts, statistics, strict=False)])[order]
        for side in ("first", "second")
    )
    scale = np.concatenate([one.scale for one in statistics])[order, None]
    n_as_clear = np.zeros(len(observed), dtype=np.int64)
    for done in range(0, n_resamples, _CHUNK):
        count = min(_CHUNK, n_resamples - done)
        totals = np.concatenate([one.flipped_totals(rng, count) for one in statistics])
        largest = np.zeros(count)
        # Few pairs at a time stay in the processor's cache.
        for part in (slice(k, k + _PAIRS) for k in range(0, len(order), _PAIRS)):
            resampled = np.abs(totals[first[part]] - totals[second[part]])
            resampled /= scale[part]
            # The largest statistic among the pairs that are no clearer.
            np.maximum(resampled[0], largest, out=resampled[0])
            np.maximum.accumulate(resampled, axis=0, out=resampled)
            largest = resampled[-1]
            n_as_clear[part] += (resampled >= limits[part, None]).sum(axis=1)
    stepped = np.maximum.accumulate(((1 + n_as_clear) / (1 + n_resamples))[::-1])[::-1]
    corrected = np.empty(len(observed))
    corrected[order] = stepped
    ends = np.cumsum([len(test_set.pairs) for test_set in test_sets])[:-1]
    return [values.tolist() for values in np.split(corrected, ends)]


class _Statistics:
    """The statistic of every pair on one test set, as observed, and what it is made of under flipped signs."""

    def __init__(self, runs: PairedRuns) -> None:
        correct = np.asarray(runs.correct)
        person_ids = person_numbers(runs.persons, correct.shape[1])
        sums = np.stack([np.bincount(person_ids, weights=run) for run in correct], axis=1)
        # A person on whom all runs do equally well contributes to no difference.
        self.sums = sums[sums.min(axis=1) < sums.max(axis=1)].astype(np.float32)
        self.first, self.second = np.array(runs.pairs, dtype=np.int64).reshape(-1, 2).T
        products = sums.T @ sums
        squares = np.diag(products)[:, None] + np.diag(products) - 2 * products
        scale = np.sqrt(squares[self.first, self.second])
        # Two runs that agree on every person have a statistic of 0, whatever the signs.
        self.scale = np.where(scale > 0, scale, np.inf)
        totals = sums.sum(axis=0)
        self.observed = np.abs(totals[self.first] - totals[self.second]) / self.scale

    def flipped_totals(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """The sums of each run over the persons under random signs, shape (runs, resamples)."""
        n_persons = len(self.sums)
        bits = np.unpackbits(rng.integers(0, 256, (count, -(-n_persons // 8)), dtype=np.uint8), axis=1)
        signs = 2 * bits[:, :n_persons].astype(np.float32) - 1
        totals: NDArray[np.float64] = (self.sums.T @ signs.T).astype(np.float64)
        return totals


def _sign_flip_p(differences: NDArray[np.int64]) -> float:
    """Exact probability that the sum with random signs is at least as far from 0 as the observed sum."""
    observed = abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    # The distribution of the sum of the flipped values. The number of flipped values of each size is binomial, so the
    # distributions of the sizes are convolved.
    flipped = np.ones(1)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    for size, count in zip(sizes, counts, strict=True):
        of_this_size = np.zeros(size * count + 1)
        of_this_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        flipped = np.convolve(flipped, of_this_size)
    total = len(flipped) - 1
    sums = total - 2 * np.arange(total + 1)
    return min(1.0, float(flipped[np.abs(sums) >= observed].sum()))
