"""Assigns groups of images to the training, validation and test sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class GroupSizes:
    """How many images of which class each of G groups has.

    Args:
        starts: int64 of shape (G + 1,); the classes of group g are at `starts[g]` to `starts[g + 1] - 1`.
        labels: the classes of the groups, ascending in each one, int64 of shape (P,).
        counts: images of each of these classes in the group, int64 of shape (P,).
    """

    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], labels: NDArray[np.uint8 | np.uint16], classes: int) -> GroupSizes:
        """The sizes of groups that are numbered from 0.

        Args:
            codes: the group of each image.
            labels: the class of each image.
            classes: number of classes.
        """
        pairs, counts = np.unique(codes * classes + labels, return_counts=True)
        group, label = np.divmod(pairs, classes)
        starts = np.concatenate([[0], np.cumsum(np.bincount(group))]).astype(np.int64)
        return cls(starts, label, counts.astype(np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def totals(self) -> NDArray[np.int64]:
        """Images of each group."""
        return np.add.reduceat(self.counts, self.starts[:-1])

    @property
    def group(self) -> NDArray[np.int64]:
        """The group of each of the P entries."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def content(self, group: int) -> list[tuple[int, int]]:
        """The classes of a group, each with its number of images."""
        some = slice(int(self.starts[group]), int(self.starts[group + 1]))
        return list(zip(self.labels[some].tolist(), self.counts[some].tolist(), strict=True))


def assign_groups(
    sizes: GroupSizes, wanted: NDArray[np.int64], chance: NDArray[np.float64]
) -> tuple[NDArray[np.int64], int]:
    """One random assignment: the set of each group, and by how many images the sets miss the wanted numbers.

    Args:
        sizes: the classes of each group.
        wanted: wanted number of images per set and class, shape (sets, K).
        chance: a random number in [0, 1) for each group.
    """
    # Sizes are compared by powers of two, so that being the largest does not determine the set of a group.
    rank = np.frexp(sizes.totals.astype(np.float64))[1]
    order = np.lexsort((chance, -rank))
    needs: list[list[int]] = wanted.T.tolist()  # of each class, in each set
    chosen: list[int] = []
    first = sizes.starts[:-1][order]
    # The random number determined the order; its scaled fraction serves as another one.
    for g, is_single, label, count, share in zip(
        order.tolist(),
        (np.diff(sizes.starts)[order] == 1).tolist(),
        sizes.labels[first].tolist(),
        sizes.counts[first].tolist(),
        ((chance * 7919) % 1.0)[order].tolist(),
        strict=True,
    ):
        # Sets that have room for the whole group, weighted by what they need of its classes.
        # A set that has too many images of one class can still need the other.
        counts = [(label, count)] if is_single else sizes.content(g)
        if is_single:
            weight = [need if need >= count else 0 for need in needs[label]]
        else:
            room = [[needs[label][s] - count for label, count in counts] for s in range(len(wanted))]
            weight = [sum(needs[label][s] for label, _ in counts) * (min(room[s]) >= 0) for s in range(len(wanted))]
        if any(weight):
            left = share * sum(weight)
            split = 0
            while split < len(weight) - 1 and left >= weight[split]:
                left -= weight[split]
                split += 1
        else:
            split = _least_exceeded(needs, dict(counts), len(wanted))
        chosen.append(split)
        for each, number in counts:
            needs[each][split] -= number
    split_of = np.empty(len(sizes), dtype=np.int64)
    split_of[order] = chosen
    _fill_empty(split_of, sizes, order, wanted.shape)
    missed = wanted.copy()
    np.subtract.at(missed, (split_of[sizes.group], sizes.labels), sizes.counts)
    empty = int(np.sum(wanted <= missed)) * 2 * int(wanted.sum())  # worse than any imbalance
    return split_of, int(np.abs(missed).sum()) + empty


def _least_exceeded(needs: Sequence[Sequence[int]], count_of: dict[int, int], sets: int) -> int:
    """The set that would have the fewest images too many with this group."""
    exceeded = [
        sum(max(count_of.get(label, 0) - need[split], 0) for label, need in enumerate(needs)) for split in range(sets)
    ]
    return exceeded.index(min(exceeded))


def _fill_empty(
    split_of: NDArray[np.int64], sizes: GroupSizes, order: NDArray[np.int64], shape: tuple[int, ...]
) -> None:
    """Move a small group into each set without a class; that happens if all groups are larger than the set."""
    groups = np.zeros(shape, dtype=np.int64)  # that have the class, in each set
    np.add.at(groups, (split_of[sizes.group], sizes.labels), 1)
    for split, label in np.argwhere(groups == 0).tolist():
        if groups[split, label]:  # by now
            continue
        for g in reversed(order.tolist()):  # from the smallest
            own = [each for each, _ in sizes.content(g)]
            if label not in own:
                continue
            others = groups[split_of[g]].copy()
            others[own] -= 1
            if others.all():
                groups[split_of[g]] = others
                groups[split, own] += 1
                split_of[g] = split
                break
