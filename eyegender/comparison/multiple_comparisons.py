"""p-values of many pairs of runs, corrected for all the pairs that could have been picked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eyegender.comparison.intervals import person_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

N_RESAMPLES = 9999
_CHUNK = 500  # resamples per block: 500 x 780 pairs are 3 MB


class Contest(NamedTuple):
    """Runs that were tested on the same N pictures, and which of them are compared.

    Args:
        right: whether each of R runs is right on each picture, shape (R, N).
        persons: whose picture each is, N of them; None where nobody knows.
        pairs: positions of the two runs of each pair.
    """

    right: NDArray[np.bool_]
    persons: Sequence[str] | None
    pairs: Sequence[tuple[int, int]]


def corrected_p_values(
    contests: Sequence[Contest], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> list[list[float]]:
    """Each pair's p-value, corrected for all pairs of all contests: the chance of a single wrong claim stays at 5%.

    Westfall and Young's step-down procedure. Every resample flips the sign of all differences on a person, as
    `mcnemar` does, for all pairs with the same coin: so runs that fail on the same persons cost less than independent
    ones, which a correction by the number of pairs would not notice. A pair is judged by the largest of the clustered
    McNemar statistics (difference / root of the summed squares over persons) among the pairs that are no clearer than
    itself. Sources: P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing (1993), chapter 2; J. P. Romano, M.
    Wolf, Econometrica 73 (2005) 1237-1282. Contests get coins of their own, which is on the safe side where they
    share persons (T. Royen, Far East J. Theor. Stat. 48 (2014) 139-145). `benchmarks.comparison_error` measures what
    it keeps to, and what it finds.

    No result is below 1 / (n_resamples + 1). A pair alone needs no correction: take its `mcnemar`.

    Args:
        contests: one per set of test pictures.
        n_resamples: how often all signs are flipped.
        seed: of the flips; the same seed gives the same p-values.

    Returns:
        Per contest, in the order of its pairs.
    """
    rng = np.random.default_rng(seed)
    parts = [_Statistics(contest) for contest in contests]
    observed = np.concatenate([part.observed for part in parts]) if parts else np.zeros(0)
    order = np.argsort(-observed, kind="stable")
    # A sum that is equal up to rounding counts as equal.
    limits = observed[order] * (1 - 1e-9)
    as_clear = np.zeros(len(observed), dtype=np.int64)
    blocks = [part.flipped(rng, n_resamples) for part in parts]
    for _ in range(0, n_resamples, _CHUNK):
        found = np.concatenate([next(block) for block in blocks], axis=1)[:, order] if parts else np.zeros((0, 0))
        # From the least clear pair upwards: the largest among those that are no clearer.
        largest = np.maximum.accumulate(found[:, ::-1], axis=1)[:, ::-1]
        as_clear += (largest >= limits).sum(axis=0)
    stepped = np.maximum.accumulate((1 + as_clear) / (1 + n_resamples))
    corrected = np.empty(len(observed))
    corrected[order] = stepped
    ends = np.cumsum([len(contest.pairs) for contest in contests])[:-1]
    return [values.tolist() for values in np.split(corrected, ends)] if parts else []


class _Statistics:
    """The statistic of every pair of one contest, as observed and under flipped signs."""

    def __init__(self, contest: Contest) -> None:
        right = np.asarray(contest.right)
        owners = person_numbers(contest.persons, right.shape[1])
        sums = np.stack([np.bincount(owners, weights=run) for run in right], axis=1)
        # A person on whom all runs do equally well is part of no difference.
        self.sums = sums[sums.min(axis=1) < sums.max(axis=1)].astype(np.float32)
        self.first, self.second = np.array(contest.pairs, dtype=np.int64).reshape(-1, 2).T
        products = sums.T @ sums
        squares = np.diag(products)[:, None] + np.diag(products) - 2 * products
        scale = np.sqrt(squares[self.first, self.second])
        # Two runs that agree on every person: nothing is ever as clear.
        self.scale = np.where(scale > 0, scale, np.inf)
        self.observed = self._of(sums.sum(axis=0)[None])[0]

    def flipped(self, rng: np.random.Generator, n_resamples: int) -> Iterator[NDArray[np.float64]]:
        """Blocks of shape (resamples, pairs)."""
        persons = len(self.sums)
        for start in range(0, n_resamples, _CHUNK):
            count = min(_CHUNK, n_resamples - start)
            coins = np.unpackbits(rng.integers(0, 256, (count, -(-persons // 8)), dtype=np.uint8), axis=1)
            signs = 2 * coins[:, :persons].astype(np.float32) - 1
            yield self._of((signs @ self.sums).astype(np.float64))

    def _of(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        statistics: NDArray[np.float64] = np.abs(totals[:, self.first] - totals[:, self.second]) / self.scale
        return statistics
