"""Among very many images, near-duplicates are searched in a graph, with the pairs of the exact comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eyegender.data import near_candidates, near_duplicates
from eyegender.data.near_duplicates import find_near_duplicates, image_vectors

N = 2000


def photographs(count: int = N, seed: int = 0) -> np.ndarray:
    """Smooth random images of 32 x 32."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (count, 4, 4))
    return np.kron(small, np.ones((8, 8))).clip(0, 255)


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Images of which every tenth is a copy of the one before, noisy and in half of the cases mirrored."""
    images, rng = photographs(), np.random.default_rng(1)
    for k in range(9, N, 10):
        images[k] = images[k - 1][:, :: (-1) ** (k // 10)] * 0.8 + rng.normal(0, 8, (32, 32))
    return image_vectors(images.clip(0, 255).astype(np.uint8))


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(near_candidates, "FEWEST", 1)
    monkeypatch.setattr(near_candidates, "_BLOCK", 300)


def test_planted_copies_are_found(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = find_near_duplicates(*planted)
    assert len(exact.pairs) == N // 10
    assert exact.mirrored.sum() == N // 20
    pytest.importorskip("faiss")
    monkeypatch.setattr(near_candidates, "FEWEST", 1)
    monkeypatch.setattr(near_duplicates, "_all_candidates", None)
    found = find_near_duplicates(*planted)
    for name in ("pairs", "similarity", "mirrored"):
        np.testing.assert_array_equal(getattr(found, name), getattr(exact, name))


def test_a_group_of_more_copies_than_are_asked_for_at_first(graph: None) -> None:
    images, rng = photographs(600), np.random.default_rng(1)
    images[:40] = images[0] + rng.normal(0, 5, (40, 32, 32))
    found = find_near_duplicates(*image_vectors(images.clip(0, 255).astype(np.uint8)))
    assert len(found.pairs) == 40 * 39 // 2
    assert not found.aborted


def test_images_that_are_all_alike_end_the_search(graph: None) -> None:
    images = photographs(1) + np.random.default_rng(1).normal(0, 5, (500, 32, 32))
    found = find_near_duplicates(*image_vectors(images.clip(0, 255).astype(np.uint8)))
    assert found.aborted
    assert found.pairs.shape == (0, 2)


def test_the_result_does_not_depend_on_threads(planted: Any, graph: None) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        found = []
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            found.append(find_near_duplicates(*planted).pairs.tolist())
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    assert found[0] == found[1]


def test_without_faiss_all_are_compared(
    planted: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(near_candidates, "FEWEST", 1)
    monkeypatch.setattr(near_candidates, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert len(find_near_duplicates(*planted).pairs) == N // 10
    assert "the extra faiss makes that faster" in caplog.text
