"""Groups of images that may show the same person, for data sets that do not say who is who.

In eye data sets, images with consecutive file numbers are very often the left and the right eye of one person.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.atomic_write import atomic_write
from eyegender.core.cache import cache_folder
from eyegender.core.eye_study import is_eye_study
from eyegender.data.near_duplicates import THRESHOLD, centered, correlate, find_near_duplicates, image_vectors
from eyegender.data.pixel_cache import open_pixel_store
from eyegender.data.text_columns import joined_lines, text_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.cluster.hierarchy import DisjointSet

    from eyegender.data.readers import Samples

_FORMAT = 1
_LONGEST_RUN = 64
LARGEST_GROUP = 256  # near-duplicates do not merge groups beyond this: so long a chain is an error of the comparison
_UNRELATED_PERCENTILE = 10.0
_NUMBERED = re.compile(r"(.*?)(\d+)\D*", re.DOTALL)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Groups:
    """Groups of images that must be in the same split.

    Args:
        group: int64 of shape (N,), the smallest position in the group of each image.
        near_pairs: positions of near-duplicates, int64 of shape (M, 2), most similar first.
        similarity: correlation of each pair, float32 of shape (M,).
        mirrored: whether each pair matches when one image is mirrored, bool of shape (M,).
        warnings: what these groups cannot guarantee, one line each.
    """

    group: NDArray[np.int64]
    near_pairs: NDArray[np.int64]
    similarity: NDArray[np.float32]
    mirrored: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()


def find_groups(
    samples: Samples,
    cache: str | Path | None = None,
    longest_run: int = _LONGEST_RUN,
    *,
    max_gb: float | None = None,
) -> Groups:
    """Group equal images, near-duplicates (also mirrored, also across classes) and consecutive file numbers.

    When in doubt, images are grouped. The result depends only on names and contents, and is cached.

    Args:
        samples: the samples to group.
        cache: the cache folder, see `cache_folder`.
        longest_run: a longer run of consecutive numbers is split, but only between neighbors that are less similar
            than nine in ten pairs of unrelated images.
        max_gb: limit of the cache for the images that are decoded, see `open_pixel_store`.
    """
    path = cache_folder(cache) / "groups" / f"{_key(samples, longest_run)}.npz"
    groups = _load(path, len(samples))
    if groups is None:
        groups = _find(samples, cache, longest_run, max_gb)
        _store(path, groups)
    for warning in groups.warnings:
        _log.warning("%s", warning)
    return groups


def parse_numbered_name(name: str) -> tuple[str, str, int]:
    """Folder, beginning of the name, and the last number in it, which is -1 if the name has no number."""
    path = PurePosixPath(name)
    match = _NUMBERED.fullmatch(path.stem)
    return (str(path.parent), match[1], int(match[2])) if match else (str(path.parent), path.stem, -1)


def consecutive_runs(names: Sequence[str]) -> list[list[int]]:
    """Positions of images with consecutive file numbers, each run in ascending order of the numbers.

    A run contains files of one folder whose names start with the same text and whose last numbers have no gap;
    `12-left.jpg` and `12-right.jpg` have the same number and are in one run. Names without a number are left out.
    """
    numbered: dict[tuple[str, str], list[tuple[int, str, int]]] = {}
    for i, name in enumerate(names):
        folder, start, number = parse_numbered_name(name)
        if number >= 0:
            numbered.setdefault((folder, start), []).append((number, name, i))
    runs: list[list[int]] = []
    for files in numbered.values():
        files.sort()
        previous: int | None = None
        for number, _, i in files:
            if previous is not None and number - previous <= 1:
                runs[-1].append(i)
            else:
                runs.append([i])
            previous = number
    return runs


def split_long_run(
    run: Sequence[int], similarity: NDArray[np.float32], weakest: float, longest: int
) -> list[list[int]]:
    """Split a run between dissimilar neighbors, into pieces of at most `longest` images if possible.

    Args:
        run: positions in the order of their numbers.
        similarity: similarity of neighbors, shape (len(run) - 1,).
        weakest: neighbors with at least this similarity are never separated, whatever the length.
        longest: images per piece; a piece is longer if no neighbors in it may be separated.
    """
    pieces: list[list[int]] = []
    start = 0
    while len(run) - start > longest:
        # Split after a quarter at the earliest: the weakest of many links rarely separates two eyes of one person.
        first = start + max(1, longest // 4)
        window = np.arange(first - 1, start + longest - 1 + 1)[: len(similarity) - first + 1]
        at = int(window[np.argmin(similarity[window])]) if len(window) else -1
        if at < 0 or similarity[at] >= weakest:
            later = np.flatnonzero(similarity[first - 1 :] < weakest)
            if not len(later):
                break
            at = first - 1 + int(later[0])
        pieces.append(list(run[start : at + 1]))
        start = at + 1
    pieces.append(list(run[start:]))
    return pieces


def singletons(count: int) -> DisjointSet[int]:
    """The positions 0 to `count` - 1, each in a group of one."""
    from scipy.cluster.hierarchy import DisjointSet  # the import takes longer than loading cached groups

    return DisjointSet(range(count))


def merge_limited(groups: DisjointSet[int], left: int, right: int) -> bool:
    """Merge two groups unless the result is larger than `LARGEST_GROUP`; returns whether they are one group now."""
    if groups.connected(left, right):
        return True
    if groups.subset_size(left) + groups.subset_size(right) > LARGEST_GROUP:
        return False
    return groups.merge(left, right)


def smallest_members(groups: DisjointSet[int]) -> NDArray[np.int64]:
    """The smallest position in the group of each position."""
    smallest = np.empty(len(groups), dtype=np.int64)
    for members in groups.subsets():
        smallest[list(members)] = min(members)
    return smallest


def _find(samples: Samples, cache: str | Path | None, longest_run: int, max_gb: float | None) -> Groups:
    store = open_pixel_store(samples, 32, "gray", cache, max_gb)
    vectors, mirrors = image_vectors(store.read(np.arange(len(store)))[:, 0])
    row = store.rows(samples.digests)
    near = find_near_duplicates(vectors, mirrors)
    runs = consecutive_runs(samples.names)
    warnings = []

    groups = singletons(len(samples))
    first_of_row: dict[int, int] = {}
    for i, r in enumerate(row.tolist()):
        groups.merge(first_of_row.setdefault(r, i), i)
    for run in _split_long_runs(runs, row, vectors, mirrors, longest_run):
        for left, right in pairwise(run):
            groups.merge(left, right)
    refused = 0
    for a, b in near.pairs.tolist():
        refused += not merge_limited(groups, first_of_row[a], first_of_row[b])

    unnumbered = len(samples) - sum(len(run) for run in runs)
    if unnumbered:
        eyes = is_eye_study(samples.classes)
        what = "two eyes of one person" if eyes else "images that belong together"
        warnings.append(
            f"{unnumbered} of {len(samples)} file names contain no number: {what} among them are only "
            "grouped if they are near-duplicates, and may be in different splits; data.split.by=file accepts a list of "
            + ("persons" if eyes else "groups")
        )
    if near.aborted:
        warnings.append("the images are too similar to find near-duplicates; only equal images are grouped")
    if refused:
        warnings.append(
            f"{refused} pairs of near-duplicates would chain up more than {LARGEST_GROUP} images; they are not grouped"
        )
    pairs = np.array([[first_of_row[a], first_of_row[b]] for a, b in near.pairs.tolist()], np.int64).reshape(-1, 2)
    return Groups(smallest_members(groups), pairs, near.similarity, near.mirrored, tuple(warnings))


def _split_long_runs(
    runs: list[list[int]],
    row: NDArray[np.int64],
    vectors: NDArray[np.float32],
    mirrors: NDArray[np.float32],
    longest: int,
) -> list[list[int]]:
    long = [run for run in runs if len(run) > longest]
    if not long:
        return runs
    plain, mirrored = centered(vectors, mirrors)
    # Rows are ordered by hash, so the image half a store further is an unrelated one.
    unrelated = np.roll(np.arange(len(plain)), len(plain) // 2)
    weakest = float(np.percentile(correlate(plain, plain[unrelated], mirrored[unrelated]), _UNRELATED_PERCENTILE))
    pieces = [run for run in runs if len(run) <= longest]
    for run in long:
        left, right = row[run[:-1]], row[run[1:]]
        pieces += split_long_run(run, correlate(plain[left], plain[right], mirrored[right]), weakest, longest)
    return pieces


def _key(samples: Samples, longest_run: int) -> str:
    key = hashlib.sha256(f"eyegender groups {_FORMAT} {THRESHOLD} {longest_run}".encode())
    digests, names = text_array(samples.digests), text_array(samples.names)
    for piece in joined_lines(b"\n", np.strings.add(np.strings.add(digests, b" "), names)):
        key.update(piece)
    return key.hexdigest()[:32]


def _load(path: Path, count: int) -> Groups | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            warnings = tuple(stored["warnings"].tolist())
            groups = Groups(stored["group"], stored["near_pairs"], stored["alike"], stored["mirrored"], warnings)
    except Exception:  # missing or damaged in any way: the groups are computed again
        return None
    return groups if groups.group.shape == (count,) else None


def _store(path: Path, groups: Groups) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, "wb", one_writer=False) as file:
            np.savez_compressed(
                file,
                group=groups.group,
                near_pairs=groups.near_pairs,
                alike=groups.similarity,
                mirrored=groups.mirrored,
                warnings=np.array(groups.warnings, dtype=np.str_),
            )
    except OSError as error:
        _log.warning("groups could not be stored in %s: %s", path.parent, error)
