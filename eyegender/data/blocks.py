"""Splits groups into blocks of consecutive file numbers, if there are too few groups for a split.

Neighbors are grouped because they mostly show one person. In a folder of other images, numbered from 1 to n, that makes
a single group of everything, which no split can separate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.eye_study import is_eye_study
from eyegender.data.grouping import consecutive_runs, merge_limited, parse_numbered_name, singletons, smallest_members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.cluster.hierarchy import DisjointSet

    from eyegender.data.readers import Samples

_SHOWN = 3  # classes that the warning names
FEWEST = 3  # groups of each class: one each for train, val and test


def split_into_blocks(
    samples: Samples, group: NDArray[np.int64], near_pairs: Sequence[tuple[str, str]], share: float
) -> tuple[NDArray[np.int64], str | None]:
    """Groups of which every class has enough for a split, and a warning about what this separates.

    Only groups with images of a class that has too few groups are split, into runs of consecutive numbers. Equal images
    always stay together; near-duplicates and files with the same number do so if that leaves enough groups. If there
    are enough groups, or splitting does not help, the groups are returned unchanged and without a warning.

    Args:
        samples: the samples to be split.
        group: the group of each sample.
        near_pairs: digests of pairs of near-duplicates.
        share: fraction of the smallest split; a block is not larger than that, if possible.
    """
    short = [label for label in range(len(samples.classes)) if _count(samples, group, label) < FEWEST]
    if not short:
        return group, None
    order = [parse_numbered_name(name) for name in samples.names]
    affected = set(group[np.isin(samples.labels, short)].tolist())
    members: dict[int, list[int]] = {}
    for i, g in enumerate(group.tolist()):
        members.setdefault(g, []).append(i)
    for member in members.values():
        member.sort(key=order.__getitem__)
    counts = {label: int(np.sum(samples.labels == label)) for label in short}
    # At least two images if there are enough: groups exist to keep pairs of neighbors together.
    longest = {label: max(1, int(count * share), min(2, count // FEWEST)) for label, count in counts.items()}
    for near, whole_numbers in ((near_pairs, True), (near_pairs, False), ((), True), ((), False)):
        for lengths in _block_lengths(longest):
            groups = singletons(len(samples))
            for g, member in members.items():
                units = _same_number(member, order) if whole_numbers else [[i] for i in member]
                length = min(lengths.get(label, len(member)) for label in samples.labels[member].tolist())
                for block in _blocks(units, length) if g in affected else [member]:
                    for left, right in pairwise(block):
                        groups.merge(left, right)
            _merge_equal(groups, samples.digests, near)
            blocks = smallest_members(groups)
            if all(_count(samples, blocks, label) >= FEWEST for label in short):
                return blocks, _warning(samples, group, blocks, near_pairs, short)
    return group, None


def _count(samples: Samples, group: NDArray[np.int64], label: int) -> int:
    return len(np.unique(group[samples.labels == label]))


def _block_lengths(longest: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Lengths of the blocks of each class: the longest, then half of that, and so on down to one image."""
    lengths = dict(longest)
    while max(lengths.values()) > 1:
        yield lengths
        lengths = {label: max(1, length // 2) for label, length in lengths.items()}
    yield lengths


def _same_number(member: list[int], order: list[tuple[str, str, int]]) -> list[list[int]]:
    """Files with the same number, such as `12-left` and `12-right`."""
    units: list[list[int]] = []
    for i in member:
        if units and order[i] == order[units[-1][-1]]:
            units[-1].append(i)
        else:
            units.append([i])
    return units


def _blocks(units: list[list[int]], length: int) -> list[list[int]]:
    blocks: list[list[int]] = []
    for unit in units:
        if blocks and len(blocks[-1]) + len(unit) <= length:
            blocks[-1] += unit
        else:
            blocks.append(list(unit))
    return blocks


def _merge_equal(groups: DisjointSet[int], digests: Sequence[str], near_pairs: Sequence[tuple[str, str]]) -> None:
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        groups.merge(first.setdefault(digest, i), i)
    for a, b in near_pairs:
        if a in first and b in first:
            merge_limited(groups, first[a], first[b])


def _warning(
    samples: Samples,
    group: NDArray[np.int64],
    blocks: NDArray[np.int64],
    near_pairs: Sequence[tuple[str, str]],
    short: list[int],
) -> str:
    links = [link for run in consecutive_runs(samples.names) for link in pairwise(run)]
    separated = sum(int(blocks[a] != blocks[b]) for a, b in links)
    block_of = dict(zip(samples.digests, blocks.tolist(), strict=True))
    separated_near = sum(a in block_of and b in block_of and block_of[a] != block_of[b] for a, b in near_pairs)
    longest = max(int(np.unique(blocks[samples.labels == label], return_counts=True)[1].max()) for label in short)
    counts = {label: int(np.sum(samples.labels == label)) for label in short}
    worst = sorted(short, key=lambda label: _count(samples, group, label))[:_SHOWN]
    more = f" (and few of {len(short) - len(worst)} more classes)" if len(short) > len(worst) else ""
    found = " and ".join(
        f"{_count(samples, group, label)} from {counts[label]} images of class {samples.classes[label]!r}"
        for label in worst
    )
    found += more
    made = " and ".join(str(_count(samples, blocks, label)) for label in worst)
    near = f" and {separated_near} of {len(near_pairs)} pairs of near-duplicates" if separated_near else ""
    eyes = is_eye_study(samples.classes)
    one, unit = ("one person", "person") if eyes else ("one group", "group")
    not_one, are_one = ("are not one person", "are") if eyes else ("do not belong together", "do")
    return (
        f"NEIGHBORS MAY BE SEPARATED: images with consecutive numbers count as {one}, which makes only {found}, "
        f"but a split by {unit} needs {FEWEST}; they are split into {made} blocks of at most {longest} images, and "
        f"{separated} of {len(links)} pairs of neighbors{near} may be in two splits. If neighbors {not_one}, "
        f"set data.split.by=random; if they {are_one}, list the {unit}s with data.split.by=file"
    )
