"""How much a split gives away: twins of test pictures in training, and what they are worth to a nearest neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.data.splits import Split

_BLOCK = 1024
_MOST_QUERIES = 4096
_MOST_KNOWN = 65536


def pairs_across(split: Split, pairs: NDArray[np.int64]) -> int:
    """How many of these pairs (positions, shape (M, 2)) have one picture in test and the other in train or val."""
    tested = np.zeros(_past_last(split, pairs), dtype=np.bool_)
    tested[split.test] = True
    learnt = np.zeros_like(tested)
    learnt[np.concatenate([split.train, split.val])] = True
    left, right = pairs[:, 0], pairs[:, 1]
    return int(np.sum(tested[left] & learnt[right] | tested[right] & learnt[left]))


def nearest_neighbour_accuracy(
    pixels: NDArray[np.uint8], labels: NDArray[np.uint8], split: Split, seed: int = 0
) -> float:
    """Share of test pictures whose most correlated picture outside of test has the same label.

    Large sets are thinned out by the seed, to 4,096 test pictures and 65,536 known ones.

    Args:
        pixels: gray, shape (N, H, W).
        labels: shape (N,).
        split: train and val are what the neighbours are taken from.
        seed: of the thinning.
    """
    rng = np.random.default_rng(seed)
    known = _thin(np.concatenate([split.train, split.val]), _MOST_KNOWN, rng)
    asked = _thin(split.test, _MOST_QUERIES, rng)
    vectors = _unit(pixels[known])
    right = 0
    for start in range(0, len(asked), _BLOCK):
        some = asked[start : start + _BLOCK]
        nearest = known[np.argmax(_unit(pixels[some]) @ vectors.T, axis=1)]
        right += int(np.sum(labels[nearest] == labels[some]))
    return right / len(asked)


def _thin(index: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return index if len(index) <= most else np.sort(rng.choice(index, most, replace=False))


def _unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)
    return flat


def _past_last(split: Split, pairs: NDArray[np.int64]) -> int:
    return 1 + max(int(index.max(initial=0)) for index in (split.train, split.val, split.test, pairs))
