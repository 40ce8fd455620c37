"""Which pictures may show one person, where nobody has written down who is who."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.atomic_write import atomic_write
from eyegender.core.cache import cache_folder
from eyegender.data.near_duplicates import THRESHOLD, centred, correlate, describe, find_near_duplicates
from eyegender.data.number_runs import cut_long_run, number_runs
from eyegender.data.pixel_build import open_pixel_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eyegender.data.samples import Samples

_FORMAT = 1
_LONGEST_RUN = 64
LARGEST_GROUP = 256  # near-duplicates join nothing beyond this: a chain that long is a fault of the comparison
_UNRELATED_PERCENTILE = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Groups:
    """Pictures that a split must keep together.

    Args:
        group: int64 of shape (N,), equal for pictures of one group: the smallest position in it.
        near_pairs: positions of near-duplicates, int64 of shape (M, 2), most alike first.
        alike: their correlations, float32 of shape (M,).
        mirrored: whether they match mirrored, bool of shape (M,).
        warnings: what these groups cannot promise, one line each.
    """

    group: NDArray[np.int64]
    near_pairs: NDArray[np.int64]
    alike: NDArray[np.float32]
    mirrored: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()


def find_groups(
    samples: Samples,
    cache: str | Path | None = None,
    longest_run: int = _LONGEST_RUN,
    *,
    max_gb: float | None = None,
) -> Groups:
    """Join equal pictures, near-duplicates (also mirrored, also across classes) and runs of consecutive file numbers.

    In doubt pictures are kept together. A run longer than `longest_run` is cut, but only where neighbours differ more
    than nine in ten unrelated pictures do. The result depends on names and contents only, and is remembered.
    `max_gb` is for the pictures that are decoded for it, see `open_pixel_store`.
    """
    path = cache_folder(cache) / "groups" / f"{_key(samples, longest_run)}.npz"
    groups = _load(path, len(samples))
    if groups is None:
        groups = _find(samples, cache, longest_run, max_gb)
        _save(path, groups)
    for warning in groups.warnings:
        _log.warning("%s", warning)
    return groups


def _find(samples: Samples, cache: str | Path | None, longest_run: int, max_gb: float | None) -> Groups:
    store = open_pixel_store(samples, 32, "gray", cache, max_gb)
    vectors, mirrors = describe(store.read(np.arange(len(store)))[:, 0])
    row = store.rows(samples.digests)
    near = find_near_duplicates(vectors, mirrors)
    runs = number_runs(samples.names)
    warnings = []

    joined = Joined(len(samples))
    first_of_row: dict[int, int] = {}
    for i, r in enumerate(row.tolist()):
        joined.join(first_of_row.setdefault(r, i), i)
    for run in _cut(runs, row, vectors, mirrors, longest_run):
        for left, right in pairwise(run):
            joined.join(left, right)
    refused = 0
    for a, b in near.pairs.tolist():
        refused += not joined.join(first_of_row[a], first_of_row[b], LARGEST_GROUP)

    unnumbered = len(samples) - sum(len(run) for run in runs)
    if unnumbered:
        warnings.append(
            f"{unnumbered} of {len(samples)} file names hold no number: two eyes of one person among them can only be "
            "told by near-duplicates, and may part; data.split.by=file takes a list of persons"
        )
    if near.gave_up:
        warnings.append("the pictures are too alike to look for near-duplicates; only equal pictures are kept together")
    if refused:
        warnings.append(f"{refused} pairs of near-duplicates would chain up more than {LARGEST_GROUP}; not joined")
    pairs = np.array([[first_of_row[a], first_of_row[b]] for a, b in near.pairs.tolist()], np.int64).reshape(-1, 2)
    return Groups(joined.roots(), pairs, near.alike, near.mirrored, tuple(warnings))


def _cut(
    runs: list[list[int]],
    row: NDArray[np.int64],
    vectors: NDArray[np.float32],
    mirrors: NDArray[np.float32],
    longest: int,
) -> list[list[int]]:
    long = [run for run in runs if len(run) > longest]
    if not long:
        return runs
    plain, turned = centred(vectors, mirrors)
    # Rows are ordered by hash, so that half the store away lies somebody else.
    away = np.roll(np.arange(len(plain)), len(plain) // 2)
    weakest = float(np.percentile(correlate(plain, plain[away], turned[away]), _UNRELATED_PERCENTILE))
    pieces = [run for run in runs if len(run) <= longest]
    for run in long:
        left, right = row[run[:-1]], row[run[1:]]
        pieces += cut_long_run(run, correlate(plain[left], plain[right], turned[right]), weakest, longest)
    return pieces


class Joined:
    """Union-find over positions; the smallest position stands for its group."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self._size = [1] * count

    def join(self, left: int, right: int, largest: int | None = None) -> bool:
        """Whether the two are in one group now; with `largest` a group is not made larger than that."""
        left, right = sorted((self._root(left), self._root(right)))
        if left == right:
            return True
        if largest is not None and self._size[left] + self._size[right] > largest:
            return False
        self._parent[right] = left
        self._size[left] += self._size[right]
        return True

    def roots(self) -> NDArray[np.int64]:
        return np.array([self._root(i) for i in range(len(self._parent))], dtype=np.int64)

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i


def _key(samples: Samples, longest_run: int) -> str:
    key = hashlib.sha256(f"eyegender groups {_FORMAT} {THRESHOLD} {longest_run}".encode())
    for name, digest in zip(samples.names, samples.digests, strict=True):
        key.update(f"\n{digest} {name}".encode(errors="surrogateescape"))
    return key.hexdigest()[:32]


def _load(path: Path, count: int) -> Groups | None:
    try:
        with np.load(path, allow_pickle=False) as saved:
            warnings = tuple(saved["warnings"].tolist())
            groups = Groups(saved["group"], saved["near_pairs"], saved["alike"], saved["mirrored"], warnings)
    except Exception:  # missing or damaged, in whatever way: it is worked out again
        return None
    return groups if groups.group.shape == (count,) else None


def _save(path: Path, groups: Groups) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, "wb", one_writer=False) as file:
            np.savez_compressed(
                file,
                group=groups.group,
                near_pairs=groups.near_pairs,
                alike=groups.alike,
                mirrored=groups.mirrored,
                warnings=np.array(groups.warnings, dtype=np.str_),
            )
    except OSError as error:
        _log.warning("groups could not be stored in %s: %s", path.parent, error)
