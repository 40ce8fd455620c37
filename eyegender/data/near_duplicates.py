"""Finds near-duplicates: one photograph that was re-encoded, resized, brightened, mirrored or cropped by a pixel."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.progress import show_progress
from eyegender.data import near_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eyegender.data.splits.leakage import Images

SIDE = 16
"""Side in pixels of the gray images that are compared."""

THRESHOLD = 0.96
"""Smallest correlation of near-duplicates.

Measured on 9,280 real eyes (43 million pairs, all different photographs): 7 pairs reach 0.95, none 0.96. Altered copies
(JPEG at quality 30, half size, mirroring, contrast, a crop of one pixel in 55) stay above 0.98. Crops by two pixels and
a zoom by 5% are found in a little over half of the cases.
"""

_BLOCK = 2048
_PRINCIPAL_COMPONENTS = 48  # explain all but a few percent of the variance of eyes
_ROUNDING = 1e-3
_TOO_MANY_PER_IMAGE = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NearDuplicates:
    """M pairs of near-duplicates.

    Args:
        pairs: positions, int64 of shape (M, 2), the smaller one first, most similar pair first.
        similarity: correlation of each pair, float32 of shape (M,), from `THRESHOLD` to 1.
        mirrored: whether each pair is more similar when one image is mirrored, bool of shape (M,).
        aborted: whether the images are too similar for this comparison; there are no pairs then.
    """

    pairs: NDArray[np.int64]
    similarity: NDArray[np.float32]
    mirrored: NDArray[np.bool_]
    aborted: bool = False


def image_vectors(
    images: Images, index: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors of shape (N, 256) of images (N, 32, 32) and of their mirror images; zeros for a uniform image.

    Args:
        images: the images, as an array or read from a file in blocks.
        index: positions of the images; None for all of an array.
    """
    index = np.arange(len(images)) if index is None else index  # type: ignore[arg-type]
    vectors = np.empty((len(index), SIDE * SIDE), dtype=np.float32)
    mirrors = np.empty_like(vectors)
    for start in range(0, len(index), _BLOCK):
        some = slice(start, start + _BLOCK)
        pixels = images[index[some]]
        side = pixels.shape[-1] // SIDE
        small = pixels.reshape(-1, SIDE, side, SIDE, side).mean(axis=(2, 4), dtype=np.float32)
        vectors[some], mirrors[some] = _unit(small), _unit(small[:, :, ::-1])
    return vectors, mirrors


def correlate(
    left: NDArray[np.float32], right: NDArray[np.float32], mirror: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The correlation of each row of `left` with that of `right` or of its mirror image, whichever is larger."""
    similarity: NDArray[np.float32] = np.maximum((left * right).sum(axis=1), (left * mirror).sum(axis=1))
    return similarity


def centered(
    vectors: NDArray[np.float32], mirrors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The vectors minus their mean, which distinguish persons better."""
    mean = (vectors.mean(axis=0) + mirrors.mean(axis=0)) / 2
    return _unit(vectors - mean), _unit(mirrors - mean)


def find_near_duplicates(
    vectors: NDArray[np.float32], mirrors: NDArray[np.float32], threshold: float = THRESHOLD
) -> NearDuplicates:
    """Compare all pairs of images; the comparison runs in blocks and needs a few tens of MiB of memory.

    All pairs are compared exactly. From 50,000 images on, if faiss is installed (extra `faiss`), only the neighbors in
    a graph are: that takes more memory, about 0.4 kB per image, and may miss a pair.
    """
    if len(vectors) < near_candidates.FEWEST:
        candidates = _all_candidates(vectors, mirrors, threshold)
    elif near_candidates.is_available():
        points, mirrored_points = _projected(vectors, mirrors)
        radius = float(np.sqrt(2 - 2 * threshold)) + _ROUNDING
        candidates = near_candidates.near_candidates(points, mirrored_points, radius)
    else:
        _log.info("%s images are compared with each other; the extra faiss makes that faster", f"{len(vectors):,}")
        candidates = _all_candidates(vectors, mirrors, threshold)
    limit = _TOO_MANY_PER_IMAGE * len(vectors)
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    similarity: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    mirrored: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    count = 0
    for first, second in candidates:
        for start in range(0, len(first), _BLOCK):
            a, b = first[start : start + _BLOCK], second[start : start + _BLOCK]
            plain, flipped = (vectors[a] * vectors[b]).sum(axis=1), (vectors[a] * mirrors[b]).sum(axis=1)
            best = np.maximum(plain, flipped)
            found = best >= threshold
            pairs.append(np.stack([a[found], b[found]], axis=1))
            similarity.append(best[found])
            mirrored.append((flipped > plain)[found])
            count += int(found.sum())
            if count > limit:
                some_pairs, some_similarities, some_mirrored = _distinct(pairs, similarity, mirrored)
                count = len(some_pairs)
                if count > limit:
                    return NearDuplicates(some_pairs[:0], some_similarities[:0], some_mirrored[:0], aborted=True)
                pairs, similarity, mirrored = [some_pairs], [some_similarities], [some_mirrored]
    all_pairs, all_similarities, all_mirrored = _distinct(pairs, similarity, mirrored)
    order = np.lexsort((all_pairs[:, 1], all_pairs[:, 0], -all_similarities))
    return NearDuplicates(all_pairs[order], all_similarities[order], all_mirrored[order])


def _distinct(
    pairs: list[NDArray[np.int64]], similarity: list[NDArray[np.float32]], mirrored: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """The joined columns; a pair that came several times is in them once."""
    joined = np.concatenate(pairs)
    largest = int(joined.max(initial=0)) + 1
    where = np.unique(joined[:, 0] * largest + joined[:, 1], return_index=True)[1]
    return joined[where], np.concatenate(similarity)[where], np.concatenate(mirrored)[where]


def _all_candidates(
    vectors: NDArray[np.float32], mirrors: NDArray[np.float32], threshold: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs, the smaller position first, of which a bound does not say that they are too different."""
    short, short_mirrors = _shortened(vectors, mirrors)
    starts = range(0, len(vectors), _BLOCK)
    with show_progress("comparing images", len(starts) * (len(starts) + 1) // 2) as progress:
        for top, left in ((top, left) for top in starts for left in starts if left >= top):
            progress(1)
            rows = short[top : top + _BLOCK]
            bound = rows @ short[left : left + _BLOCK].T
            np.maximum(bound, rows @ short_mirrors[left : left + _BLOCK].T, out=bound)
            candidates = np.flatnonzero(bound.ravel() >= threshold - _ROUNDING)
            first, second = candidates // bound.shape[1] + top, candidates % bound.shape[1] + left
            yield first[first < second], second[first < second]


def _shortened(
    vectors: NDArray[np.float32], mirrors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shorter vectors whose dot products are upper bounds of those of the vectors, so few pairs need the exact product.

    They are the projections on the principal components, and the norm of the remainder (Cauchy-Schwarz inequality).
    """

    def shorten(long: NDArray[np.float32], projected: NDArray[np.float32]) -> NDArray[np.float32]:
        rest = np.sqrt(np.maximum((long**2).sum(axis=1) - (projected**2).sum(axis=1), 0))
        return np.column_stack([projected, rest]).astype(np.float32)

    projected, projected_mirrors = _projected(vectors, mirrors)
    return shorten(vectors, projected), shorten(mirrors, projected_mirrors)


def _projected(
    vectors: NDArray[np.float32], mirrors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The projections on the principal components, of shape (N, 48); no distance is larger than before."""
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    basis = directions[:, -_PRINCIPAL_COMPONENTS:].astype(np.float32)
    return vectors @ basis, mirrors @ basis


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = vectors.reshape(len(vectors), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # Less than one gray level of variation is noise: such a vector matches nothing.
    return np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0).astype(np.float32)
