"""Which pictures train, validate and test: a function of the seed and of what the pictures hold, of nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.samples import Samples

PARTS = ("train", "val", "test")
KINDS = ("person", "random", "file", "official")
Kind = Literal["person", "random", "file", "official"]

_DRAWS = 16  # how often the draw is repeated for a better balance where groups are large


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of samples.

    Args:
        kind: `person`, `random`, `file` or `official`; `blocks` where persons would have been too few, see
            `cut_into_blocks`.
        train: positions in the samples, sorted, int64.
        val: as `train`.
        test: as `train`.
        fingerprint: hex hash of which picture is where; equal fingerprints mean the same split anywhere.
    """

    kind: str
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    def part(self, name: str) -> NDArray[np.int64]:
        return cast("NDArray[np.int64]", getattr(self, name))

    def counts(self, samples: Samples) -> dict[str, dict[str, int]]:
        """Pictures per part and class."""
        return {
            part: {name: int(np.sum(samples.labels[self.part(part)] == label))
                   for label, name in enumerate(samples.classes)}
            for part in PARTS
        }  # fmt: skip


def make_split(samples: Samples, assigned: Sequence[str], kind: str) -> Split:
    """The split that puts sample i into part `assigned[i]`, nowhere where that is empty.

    Raises:
        UserError: a part lacks a class.
    """
    where = np.array(assigned)
    index = {part: np.flatnonzero(where == part).astype(np.int64) for part in PARTS}
    lacking = [f"no {name} in {part}" for part in PARTS for label, name in enumerate(samples.classes)
               if not np.any(samples.labels[index[part]] == label)]  # fmt: skip
    if lacking:
        few = [f"{count} of class {name!r}" for name, count in _totals(samples).items() if count < len(PARTS)]
        repair = {
            "file": "name such pictures in data.split.file",
            "official": "set data.split.by=person",
        }.get(kind, "change data.split.test or data.split.val")
        raise UserError(
            f"each of train, val and test needs both classes, got {', '.join(lacking)}; "
            + (f"there are only {' and '.join(few)}: add pictures" if few else repair)
        )
    mark = hashlib.sha256(kind.encode())
    for line in sorted(f"{part} {samples.labels[i]} {samples.digests[i]}" for part in PARTS for i in index[part]):
        mark.update(b"\n" + line.encode())
    return Split(kind, index["train"], index["val"], index["test"], mark.hexdigest())


def split_by_group(
    samples: Samples, groups: Sequence[str] | NDArray[np.int64], *, kind: str, test: float, val: float, seed: int
) -> Split:
    """Keep each group whole, meet the fractions in each class, within a picture or few.

    Groups go from large to small, each into a part drawn with the probability of what the part still lacks, so that
    all sizes are spread over the parts and the small ones fill the gaps.

    Args:
        samples: what is split.
        groups: the group of each sample, any values; only which are equal matters.
        kind: how the groups came about, for the record.
        test: fraction of all pictures for testing, in (0, 1).
        val: fraction of all pictures for validation, in (0, 1).
        seed: another seed draws another split.

    Raises:
        UserError: the fractions leave nothing to train on, or a class has too few groups to be in every part.
    """
    check_fractions(test, val)
    members = _members(groups)
    sizes = np.zeros((len(members), 2), dtype=np.int64)
    for g, member in enumerate(members):
        sizes[g] = np.bincount(samples.labels[member], minlength=2)
    for label, name in enumerate(samples.classes):
        able, pictures = int(np.sum(sizes[:, label] > 0)), int(sizes[:, label].sum())
        if pictures < len(PARTS):
            raise UserError(
                f"train, val and test need a picture each of class {name!r} at least, got {pictures}; add pictures"
            )
        if able < len(PARTS):
            raise UserError(
                f"train, val and test need one person each of class {name!r} at least, got {able} in {pictures} "
                "pictures; add pictures of others, or set data.split.by=random, which parts persons"
            )
    wanted = wanted_counts(sizes.sum(axis=0), test, val)
    contents = [hashlib.sha256("\n".join(sorted(samples.digests[i] for i in member)).encode()).digest()
                for member in members]  # fmt: skip
    best, least = None, np.inf
    for draw in range(_DRAWS):
        part_of, missed = _draw(sizes, wanted, [_uniform(seed, draw, content) for content in contents])
        if missed < least:
            best, least = part_of, missed
        if least <= len(samples) // 2000:
            break
    assert best is not None
    assigned = [""] * len(samples)
    for member, part in zip(members, best, strict=True):
        for i in member:
            assigned[i] = PARTS[part]
    return make_split(samples, assigned, kind)


def split_at_random(samples: Samples, test: float, val: float, seed: int) -> Split:
    """Every picture on its own, as in the paper: two eyes of one person may land on both sides."""
    order = sorted(range(len(samples)), key=lambda i: (samples.digests[i], samples.names[i]))
    check_fractions(test, val)
    assigned = [""] * len(samples)
    wanted = wanted_counts(np.bincount(samples.labels, minlength=2), test, val)
    for label in (0, 1):
        drawn = sorted((i for i in order if samples.labels[i] == label),
                       key=lambda i: _hash(seed, "random", samples.digests[i]))  # fmt: skip
        ends = np.cumsum(wanted[:, label])
        for position, i in enumerate(drawn):
            assigned[i] = PARTS[int(np.searchsorted(ends, position, side="right"))]
    return make_split(samples, assigned, "random")


def split_officially(samples: Samples) -> Split:
    """The partition that came with the data."""
    if samples.parts is None:
        raise UserError(
            f"data.split.by=official needs a data set with its own partition, got {samples.source}; "
            "add CelebA's list_eval_partition.txt or set data.split.by=person"
        )
    return make_split(samples, samples.parts, "official")


def check_fractions(test: float, val: float) -> None:
    if not (0 < test < 1 and 0 < val < 1 and test + val < 1):
        raise UserError(
            f"data.split.test and data.split.val must be above 0 and sum to less than 1, got {test} and {val}"
        )


def draw_subset(samples: Samples, subset: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Positions, sorted, of as many pictures of each class as `subset` says.

    Pictures are drawn one by one whatever the split, so that `person` and `random` can be compared on the same ones.

    Args:
        samples: what is drawn from.
        subset: how many pictures by class name, or by `female` for label 0 and `male` for label 1.
        seed: another seed draws others.

    Raises:
        UserError: an unknown class, a class left out, or more pictures wanted than there are.
    """
    alias = {**dict(zip(("female", "male"), (0, 1), strict=True)), **{n: i for i, n in enumerate(samples.classes)}}
    unknown = [name for name in subset if name not in alias]
    labels = sorted(alias[name] for name in subset if name in alias)
    if unknown or labels != [0, 1]:
        known = ", ".join(samples.classes)
        raise UserError(f"data.subset must give a number for each of {known}, got {dict(subset)}; name both once")
    chosen: list[int] = []
    for name, count in subset.items():
        candidates = [i for i in range(len(samples)) if samples.labels[i] == alias[name]]
        if not 2 <= count <= len(candidates):
            raise UserError(f"data.subset.{name} must be in 2..{len(candidates)}, the pictures there are, got {count}")
        candidates.sort(key=lambda i: (_hash(seed, "subset", samples.digests[i]), samples.names[i]))
        chosen += candidates[:count]
    return np.array(sorted(chosen), dtype=np.int64)


def _totals(samples: Samples) -> dict[str, int]:
    return {name: int(np.sum(samples.labels == label)) for label, name in enumerate(samples.classes)}


def _members(groups: Sequence[str] | NDArray[np.int64]) -> list[list[int]]:
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return list(members.values())


def wanted_counts(totals: NDArray[np.int64], test: float, val: float) -> NDArray[np.int64]:
    """Pictures wanted per part (train, val, test) and class: shape (3, 2), at least one each."""
    wanted = np.zeros((3, 2), dtype=np.int64)
    for label in (0, 1):
        total = int(totals[label])
        wanted[2, label] = max(1, round(total * test))
        wanted[1, label] = max(1, round(total * val))
        wanted[0, label] = total - wanted[1:, label].sum()
    return wanted


def _draw(sizes: NDArray[np.int64], wanted: NDArray[np.int64], chance: list[float]) -> tuple[list[int], int]:
    """One draw: the part of each group, and by how many pictures the parts miss what is wanted."""
    # Sizes are compared by powers of two, so that no group's place is settled by being the largest.
    rank = np.floor(np.log2(sizes.sum(axis=1))).tolist()
    order = sorted(range(len(sizes)), key=lambda g: (-rank[g], chance[g]))
    counts: list[tuple[int, int]] = [(int(a), int(b)) for a, b in sizes]
    lacks = [[int(a), int(b)] for a, b in wanted]
    part_of = [0] * len(sizes)
    for g in order:
        a, b = counts[g]
        # Parts that can take the whole group, weighted by what they lack of the classes in it.
        # A part that has too much of one class can still lack the other.
        fits = [(not a or x >= a) and (not b or y >= b) for x, y in lacks]
        weight = [((x if a else 0) + (y if b else 0)) * fit for (x, y), fit in zip(lacks, fits, strict=True)]
        if any(weight):
            # The order has used up the chance; its fraction after scaling is as good as a new one.
            left = (chance[g] * 7919) % 1.0 * sum(weight)
            part = 0
            while part < len(weight) - 1 and left >= weight[part]:
                left -= weight[part]
                part += 1
        else:
            part = min(range(len(lacks)), key=lambda p: max(a - lacks[p][0], 0) + max(b - lacks[p][1], 0))
        part_of[g] = part
        lacks[part][0] -= a
        lacks[part][1] -= b
    _fill_empty(part_of, counts, order)
    missed = wanted.copy()
    for g, part in enumerate(part_of):
        missed[part] -= sizes[g]
    empty = int(np.sum(wanted <= missed)) * 2 * int(sizes.sum())  # worse than any imbalance
    return part_of, int(np.abs(missed).sum()) + empty


def _fill_empty(part_of: list[int], counts: list[tuple[int, int]], order: list[int]) -> None:
    """Move a small group into each part that lacks a class, for where all groups are larger than the part is wanted."""
    for part in range(len(PARTS)):
        for label in (0, 1):
            if any(part_of[g] == part and counts[g][label] for g in order):
                continue
            for g in reversed(order):  # from the smallest
                stay = [h for h in order if part_of[h] == part_of[g] and h != g]
                if counts[g][label] and all(any(counts[h][k] for h in stay) for k in (0, 1)):
                    part_of[g] = part
                    break


def _hash(*values: object) -> bytes:
    return hashlib.sha256("\0".join(str(value) for value in values).encode(errors="surrogateescape")).digest()


def _uniform(seed: int, draw: int, content: bytes) -> float:
    """In [0, 1), from the seed and the group's content."""
    digest = hashlib.sha256(f"{seed} {draw} ".encode() + content).digest()
    return int.from_bytes(digest[:7]) / 2**56
