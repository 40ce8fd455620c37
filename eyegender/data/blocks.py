"""Groups that are too few for a split, cut into blocks of neighbouring file numbers.

Neighbours are kept together because in eye data sets they are mostly one person. In a folder of other things, numbered
from 1 to n, that makes one group of everything, which no split can part.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.grouping import LARGEST_GROUP, Joined
from eyegender.data.number_runs import number_runs, place_in_series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.samples import Samples

FEWEST = 3  # groups of each class: one for each of train, val and test


def cut_into_blocks(
    samples: Samples, group: NDArray[np.int64], alike: Sequence[tuple[str, str]], share: float
) -> tuple[NDArray[np.int64], str | None]:
    """Groups of which every class has enough for a split, and a line to warn of what that took.

    Only groups with pictures of a class that has too few are cut, into runs of consecutive numbers. Equal pictures stay
    together always, near-duplicates and files of one number where that leaves enough. Groups that suffice, or that
    cutting does not help, come back as they are, without a warning.

    Args:
        samples: what is to be split.
        group: of each sample.
        alike: digests of near-duplicates.
        share: of the smallest part, which a block does not exceed where it can.
    """
    short = [label for label in (0, 1) if _count(samples, group, label) < FEWEST]
    if not short:
        return group, None
    order = [place_in_series(name) for name in samples.names]
    affected = set(group[np.isin(samples.labels, short)].tolist())
    members: dict[int, list[int]] = {}
    for i, g in enumerate(group.tolist()):
        members.setdefault(g, []).append(i)
    for member in members.values():
        member.sort(key=order.__getitem__)
    counts = {label: int(np.sum(samples.labels == label)) for label in short}
    # Of two at least, where there are enough: pairs of neighbours are what groups are for.
    longest = {label: max(1, int(count * share), min(2, count // FEWEST)) for label, count in counts.items()}
    for near, whole_numbers in ((alike, True), (alike, False), ((), True), ((), False)):
        for lengths in _lengths(longest):
            joined = Joined(len(samples))
            for g, member in members.items():
                units = _units(member, order) if whole_numbers else [[i] for i in member]
                length = min(lengths.get(label, len(member)) for label in samples.labels[member].tolist())
                for block in _blocks(units, length) if g in affected else [member]:
                    for left, right in pairwise(block):
                        joined.join(left, right)
            _join_equal(joined, samples.digests, near)
            blocks = joined.roots()
            if all(_count(samples, blocks, label) >= FEWEST for label in short):
                return blocks, _warning(samples, group, blocks, alike, short)
    return group, None


def _count(samples: Samples, group: NDArray[np.int64], label: int) -> int:
    return len(np.unique(group[samples.labels == label]))


def _lengths(longest: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Of the blocks of each class: its longest, then half of that, and so on down to one picture."""
    lengths = dict(longest)
    while max(lengths.values()) > 1:
        yield lengths
        lengths = {label: max(1, length // 2) for label, length in lengths.items()}
    yield lengths


def _units(member: list[int], order: list[tuple[str, str, int]]) -> list[list[int]]:
    """Files of one number, such as `12-left` and `12-right`."""
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


def _join_equal(joined: Joined, digests: Sequence[str], alike: Sequence[tuple[str, str]]) -> None:
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        joined.join(first.setdefault(digest, i), i)
    for a, b in alike:
        if a in first and b in first:
            joined.join(first[a], first[b], LARGEST_GROUP)


def _warning(
    samples: Samples,
    group: NDArray[np.int64],
    blocks: NDArray[np.int64],
    alike: Sequence[tuple[str, str]],
    short: list[int],
) -> str:
    links = [link for run in number_runs(samples.names) for link in pairwise(run)]
    cut = sum(int(blocks[a] != blocks[b]) for a, b in links)
    block_of = dict(zip(samples.digests, blocks.tolist(), strict=True))
    torn = sum(a in block_of and b in block_of and block_of[a] != block_of[b] for a, b in alike)
    longest = max(int(np.unique(blocks[samples.labels == label], return_counts=True)[1].max()) for label in short)
    counts = {label: int(np.sum(samples.labels == label)) for label in short}
    told = " and ".join(
        f"{count} pictures of class {samples.classes[label]!r} only {_count(samples, group, label)}"
        for label, count in counts.items()
    )
    made = " and ".join(str(_count(samples, blocks, label)) for label in short)
    near = f" and {torn} of {len(alike)} pairs of near-duplicates" if torn else ""
    return (
        f"NEIGHBOURS MAY PART: neighbouring numbers count as one person, which makes of {told}, and a split by person "
        f"needs {FEWEST}; they are cut into {made} blocks of {longest} pictures at most, and {cut} of {len(links)} "
        f"pairs of neighbours{near} may be in two parts. If they show no persons, set data.split.by=random; if they "
        "do, say who is who with data.split.by=file"
    )
