"""Do two models that saw the same test pictures really differ?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom, binomtest

from eyegender.comparison.intervals import person_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on n shared pictures.

    Args:
        n: shared pictures.
        only_first: pictures that only the first model gets right.
        only_second: pictures that only the second one gets right.
        p_value: two-sided and exact, of "both are right equally often".
        persons: how many persons the test counted; None where it counted pictures.
    """

    n: int
    only_first: int
    only_second: int
    p_value: float
    persons: int | None = None

    @property
    def difference(self) -> float:
        """Accuracy of the first minus accuracy of the second, in -1..1."""
        return (self.only_first - self.only_second) / self.n

    def verdict(self, first: str, second: str, p_value: float | None = None) -> str:
        """One plain sentence; `p_value` is the corrected one where several pairs were compared."""
        p = self.p_value if p_value is None else p_value
        better, worse, points = (
            (first, second, self.difference) if self.difference >= 0 else (second, first, -self.difference)
        )
        evidence = f"{self.only_first + self.only_second} of {self.n:,} pictures are told differently, p {format_p(p)}"
        if p >= SIGNIFICANT:
            return f"No evidence of a difference between {first} and {second} ({evidence})."
        return f"{better} is more accurate than {worse} by {100 * points:.1f} points ({evidence})."


def mcnemar(
    first_right: ArrayLike, second_right: ArrayLike, persons: Sequence[str] | NDArray[np.str_] | None = None
) -> McNemar:
    """Compare two models, each given as whether it was right on each of the same N pictures, shape (N,).

    Under "no difference" a picture on which exactly one model is right is a fair coin: the exact binomial test. Where
    persons are known, the coin is tossed once per person, and decides the sign of the difference between the two
    models' right answers on all of the person's pictures: pictures of one person are right or wrong together. With one
    picture per person both are the same test. Sources: Q. McNemar, Psychometrika 12 (1947) 153-157; for clusters, N. A.
    Obuchowski, Statistics in Medicine 17 (1998) 1495-1507, here with the exact distribution under flipped signs (R. A.
    Fisher, The Design of Experiments, 1935, chapter 3) in place of a normal approximation.

    Args:
        first_right: of the first model.
        second_right: of the second one.
        persons: whose picture each is, N of them; None where nobody knows, then every picture counts as a person.

    Raises:
        ValueError: no pictures, or unequal lengths.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"both models need the same pictures, at least one, got {first.shape} and {second.shape}")
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    if persons is None:
        p = float(binomtest(b, b + c).pvalue) if b + c else 1.0
        return McNemar(len(first), b, c, p)
    owners = person_numbers(persons, len(first))
    gaps = np.bincount(owners, weights=first.astype(np.int64) - second).round().astype(np.int64)
    return McNemar(len(first), b, c, _sign_flip_p(gaps), len(gaps))


def format_p(p: float) -> str:
    """`= 0.032`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _sign_flip_p(gaps: NDArray[np.int64]) -> float:
    """How often a sum of these numbers with random signs is at least as far from 0 as their own sum, exactly."""
    observed = abs(int(gaps.sum()))
    if observed == 0:
        return 1.0
    # What the flipped ones sum to: of each size a binomial number of them, so the sizes' distributions are convolved.
    flipped = np.ones(1)
    for size, count in zip(*np.unique(np.abs(gaps[gaps != 0]), return_counts=True), strict=True):
        of_this_size = np.zeros(size * count + 1)
        of_this_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        flipped = np.convolve(flipped, of_this_size)
    total = len(flipped) - 1
    sums = total - 2 * np.arange(total + 1)
    return min(1.0, float(flipped[np.abs(sums) >= observed].sum()))
