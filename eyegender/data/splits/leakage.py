"""What a split leaks: pairs of copies across its sets, and what a nearest neighbor on raw pixels gains from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.data.splits import Split

_BLOCK = 2048  # known images that are compared at a time
_MOST_TEST = 4096
_MOST_KNOWN = 65536
_PRINCIPAL_COMPONENTS = 96  # explain all but a few percent of the variance of eyes
_ROUNDING = 1e-4
_MOST_CANDIDATES = 0.005  # fraction of all pairs that are compared one by one; of more, all pairs are


class Images(Protocol):
    """Gray images of equal size, as an array or from a file."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """The images at `index`, of shape (len(index), H, W)."""
        ...


def count_pairs_across(split: Split, pairs: NDArray[np.int64]) -> int:
    """The number of pairs (positions, shape (M, 2)) with one image in the test set and the other in train or val."""
    count = 1 + max(int(index.max(initial=0)) for index in (split.train, split.val, split.test, pairs))
    in_test = np.zeros(count, dtype=np.bool_)
    in_test[split.test] = True
    outside = np.zeros_like(in_test)
    outside[np.concatenate([split.train, split.val])] = True
    left, right = pairs[:, 0], pairs[:, 1]
    return int(np.sum(in_test[left] & outside[right] | in_test[right] & outside[left]))


def nearest_neighbor_accuracy(
    images: Images,
    labels: NDArray[np.uint8 | np.uint16],
    split: Split,
    seed: int = 0,
    basis: NDArray[np.float32] | None = None,
) -> float:
    """The share of test images whose most correlated image outside of the test set has the same label.

    At most 4,096 test images and 65,536 others are compared, chosen at random.

    Args:
        images: the images.
        labels: label of each image, shape (N,).
        split: the split; neighbors are searched in train and val.
        seed: seed of the random choice.
        basis: see `most_correlated`.
    """
    rng = np.random.default_rng(seed)
    known = _sample(np.concatenate([split.train, split.val]), _MOST_KNOWN, rng)
    tested = _sample(split.test, _MOST_TEST, rng)
    nearest = known[most_correlated(images[tested], images[known], basis)]
    return int(np.sum(labels[nearest] == labels[tested])) / len(tested)


def principal_components(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The directions in which the images vary most, of shape (H * W, 96)."""
    vectors = _unit_vectors(images)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return directions[:, -_PRINCIPAL_COMPONENTS:].astype(np.float32)


def most_correlated(
    tested: NDArray[np.uint8], known: NDArray[np.uint8], basis: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """The position of the most correlated known image for each tested one; both of shape (N, H, W).

    A bound from the principal components excludes most known images; the others are compared exactly.

    Args:
        tested: images that a neighbor is sought for.
        known: images that can be neighbors.
        basis: `principal_components` of such images; None means those of the known ones. The result is the same with
            any basis, but it takes longer with one that explains little.
    """
    if basis is None:
        basis = principal_components(known[:: max(1, len(known) // _BLOCK)])
    vectors = _unit_vectors(tested)
    short = _shortened(vectors, basis)
    starts = range(0, len(known), _BLOCK)
    short_known = [_shortened(_unit_vectors(known[start : start + _BLOCK]), basis) for start in starts]
    best, bound_of_best = np.zeros(len(tested), dtype=np.int64), np.full(len(tested), -np.inf, dtype=np.float32)
    for start, part in zip(starts, short_known, strict=True):
        _keep_better(best, bound_of_best, short @ part.T, start)
    # What the nearest neighbor reaches at least.
    least = (vectors * _unit_vectors(known[best])).sum(axis=1) - _ROUNDING
    nearest, correlation = best.copy(), np.full(len(tested), -np.inf, dtype=np.float32)
    for start, part in zip(starts, short_known, strict=True):
        bound = short @ part.T
        candidates = np.flatnonzero(bound >= least[:, None])
        if not len(candidates):
            continue
        others = _unit_vectors(known[start : start + _BLOCK])
        if len(candidates) > _MOST_CANDIDATES * bound.size:
            _keep_better(nearest, correlation, vectors @ others.T, start)
            continue
        rows, columns = np.divmod(candidates, bound.shape[1])
        exact = np.concatenate([
            (vectors[rows[i : i + _BLOCK]] * others[columns[i : i + _BLOCK]]).sum(axis=1)
            for i in range(0, len(rows), _BLOCK)
        ])  # fmt: skip
        order = np.lexsort((columns, -exact, rows))
        first = order[np.unique(rows[order], return_index=True)[1]]  # the best one of each row
        first = first[exact[first] > correlation[rows[first]]]
        nearest[rows[first]], correlation[rows[first]] = columns[first] + start, exact[first]
    return nearest


def _keep_better(best: NDArray[np.int64], value: NDArray[np.float32], values: NDArray[np.float32], start: int) -> None:
    """Replace the best columns and their values by those of further columns that are better."""
    column = np.argmax(values, axis=1)
    found = values[np.arange(len(values)), column]
    better = found > value
    best[better], value[better] = column[better] + start, found[better]


def _sample(index: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return index if len(index) <= most else np.sort(rng.choice(index, most, replace=False))


def _shortened(vectors: NDArray[np.float32], basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shorter vectors whose dot products are upper bounds of the correlations (Cauchy-Schwarz inequality)."""
    projected = vectors @ basis
    rest = np.sqrt(np.maximum((vectors**2).sum(axis=1) - (projected**2).sum(axis=1), 0))
    return np.column_stack([projected, rest]).astype(np.float32)


def _unit_vectors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)
    return flat
