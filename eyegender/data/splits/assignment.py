"""Assigns groups of images to the training, validation and test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    # The labels in a group, each with its number of images.
    Counts = Sequence[tuple[int, int]]


def assign_groups(sizes: Sequence[Counts], wanted: NDArray[np.int64], chance: list[float]) -> tuple[list[int], int]:
    """One random assignment: the set of each group, and by how many images the sets miss the wanted numbers.

    Args:
        sizes: the labels in each group, each with its number of images.
        wanted: wanted number of images per set and class, shape (sets, K).
        chance: a random number in [0, 1) for each group.
    """
    # Sizes are compared by powers of two, so that being the largest does not determine the set of a group.
    rank = [sum(count for _, count in counts).bit_length() for counts in sizes]
    order = sorted(range(len(sizes)), key=lambda g: (-rank[g], chance[g]))
    needs: list[list[int]] = wanted.tolist()
    split_of = [0] * len(sizes)
    for g in order:
        counts = sizes[g]
        # Sets that have room for the whole group, weighted by what they need of its classes.
        # A set that has too many images of one class can still need the other.
        if len(counts) == 1:
            [(label, count)] = counts
            weight = [need[label] if need[label] >= count else 0 for need in needs]
        else:
            fits = [all(need[label] >= count for label, count in counts) for need in needs]
            weight = [sum(need[label] for label, _ in counts) * fit for need, fit in zip(needs, fits, strict=True)]
        if any(weight):
            # The random number determined the order; its scaled fraction serves as another one.
            left = (chance[g] * 7919) % 1.0 * sum(weight)
            split = 0
            while split < len(weight) - 1 and left >= weight[split]:
                left -= weight[split]
                split += 1
        else:
            split = _least_exceeded(needs, dict(counts))
        split_of[g] = split
        for label, count in counts:
            needs[split][label] -= count
    _fill_empty(split_of, sizes, order, wanted.shape)
    missed = wanted.copy()
    for g, split in enumerate(split_of):
        for label, count in sizes[g]:
            missed[split, label] -= count
    empty = int(np.sum(wanted <= missed)) * 2 * int(wanted.sum())  # worse than any imbalance
    return split_of, int(np.abs(missed).sum()) + empty


def _least_exceeded(needs: list[list[int]], count_of: dict[int, int]) -> int:
    """The set that would have the fewest images too many with this group."""
    exceeded = [sum(max(count_of.get(label, 0) - left, 0) for label, left in enumerate(need)) for need in needs]
    return exceeded.index(min(exceeded))


def _fill_empty(split_of: list[int], sizes: Sequence[Counts], order: list[int], shape: tuple[int, ...]) -> None:
    """Move a small group into each set without a class; that happens if all groups are larger than the set."""
    groups = np.zeros(shape, dtype=np.int64)  # that have the class, in each set
    for g, split in enumerate(split_of):
        for label, _ in sizes[g]:
            groups[split, label] += 1
    for split, label in np.argwhere(groups == 0).tolist():
        if groups[split, label]:  # by now
            continue
        for g in reversed(order):  # from the smallest
            own = [each for each, _ in sizes[g]]
            if label not in own:
                continue
            others = groups[split_of[g]].copy()
            others[own] -= 1
            if others.all():
                groups[split_of[g]] = others
                groups[split, own] += 1
                split_of[g] = split
                break
