"""Candidates for near-duplicates among very many images, from faiss's graph of nearest neighbors (HNSW)."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FEWEST = 50_000
"""Images from which on a graph is searched; fewer are compared exactly, which is as fast."""

_LINKS = 16
_EFFORT_TO_BUILD = 40
_EFFORT_TO_SEARCH = 32
_BLOCK = 4096  # images that are searched for at a time
_NEIGHBORS = (8, 32, 128, 512)  # that are asked for, until one of them is too far away


def is_available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def near_candidates(
    points: NDArray[np.float32], mirrors: NDArray[np.float32], radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of images that are closer to each other than `radius`, or are so when one is mirrored, in blocks.

    The smaller position is first. A pair may come several times, and very few are not found. The result does not depend
    on the number of threads.

    Args:
        points: one point for each image, of shape (N, D).
        mirrors: the points of the mirror images.
        radius: largest distance.
    """
    import faiss

    count, dimensions = points.shape
    index = faiss.IndexHNSWFlat(dimensions, _LINKS)
    index.hnsw.efConstruction = _EFFORT_TO_BUILD
    queries = (np.ascontiguousarray(points), np.ascontiguousarray(mirrors))
    starts = range(0, count, _BLOCK)
    with show_progress("comparing images", 3 * len(starts)) as progress:
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # several threads would link the points in a random order
        try:
            for start in starts:
                index.add(queries[0][start : start + _BLOCK])
                progress(1)
        finally:
            faiss.omp_set_num_threads(threads)
        for start in starts:
            for query in queries:
                progress(1)
                for rows, found in _within(index, query[start : start + _BLOCK], radius):
                    first, second = np.minimum(rows + start, found), np.maximum(rows + start, found)
                    yield first[first < second], second[first < second]


def _within(
    index: Any, query: NDArray[np.float32], radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the query and the points within the radius."""
    left = np.arange(len(query))
    for neighbors in _NEIGHBORS:
        index.hnsw.efSearch = max(_EFFORT_TO_SEARCH, neighbors)
        squared, found = index.search(query[left], neighbors)
        near = (squared <= radius**2) & (found >= 0)
        # There may be more where even the last neighbor is near.
        done = ~near[:, -1] | (neighbors == _NEIGHBORS[-1])
        row, place = np.nonzero(near & done[:, None])
        yield left[row], found[row, place]
        left = left[~done]
        if not len(left):
            return
