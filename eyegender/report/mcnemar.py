"""Do two models that saw the same test pictures really differ?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom, chi2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

# Below this many disagreements the chi-square form is not close enough; the exact one costs nothing.
EXACT_BELOW = 25
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on n shared pictures.

    Args:
        n: shared pictures.
        only_first: pictures that only the first model gets right.
        only_second: pictures that only the second one gets right.
        p_value: two-sided, of "both are right equally often".
        exact: whether it is the exact binomial form.
    """

    n: int
    only_first: int
    only_second: int
    p_value: float
    exact: bool

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


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Compare two models, each given as whether it was right on each of the same N pictures, shape (N,).

    Under "no difference" a picture on which exactly one model is right is a fair coin. Below 25 of those the exact
    two-sided binomial p-value is taken, from there on the chi-square form with Edwards' continuity correction. Sources:
    Q. McNemar, Psychometrika 12 (1947) 153-157; A. L. Edwards, Psychometrika 13 (1948) 185-187.

    Pictures of one person are not independent, so the p-value is somewhat too small where models fail on persons.

    Raises:
        ValueError: no pictures, or unequal lengths.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"both models need the same pictures, at least one, got {first.shape} and {second.shape}")
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    return McNemar(len(first), b, c, *_p_value(b, c))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given. Source: S. Holm, Scand. J. Stat. 6 (1979) 65-70."""
    order = np.argsort(p_values, kind="stable")
    corrected = [0.0] * len(p_values)
    so_far = 0.0
    for rank, position in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = so_far
    return corrected


def format_p(p: float) -> str:
    """`= 0.032`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _p_value(b: int, c: int) -> tuple[float, bool]:
    discordant = b + c
    if discordant < EXACT_BELOW:
        return min(1.0, 2.0 * float(binom.cdf(min(b, c), discordant, 0.5))), True
    return float(chi2.sf((abs(b - c) - 1) ** 2 / discordant, df=1)), False
