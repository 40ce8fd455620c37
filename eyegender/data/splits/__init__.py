"""Splits samples into training, validation and test sets, depending only on the seed and the contents of the images."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.core.eye_study import unit_of
from eyegender.data.readers import subset_labels
from eyegender.data.splits.assignment import assign_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.readers import Samples

SPLITS = ("train", "val", "test")
SPLIT_KINDS = ("person", "random", "file", "official")
_MOST_NAMED = 8
_ATTEMPTS = 16  # random assignments that are tried for a better balance if groups are large
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of samples.

    Args:
        kind: `person`, `random`, `file` or `official`; `blocks` if there were too few persons, see
            `split_into_blocks`.
        train: sorted positions in the samples, int64.
        val: as `train`.
        test: as `train`.
        fingerprint: hex hash of which image is in which set; splits are equal if their fingerprints are.
    """

    kind: str
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    def index(self, name: str) -> NDArray[np.int64]:
        """The positions of `train`, `val` or `test`."""
        return cast("NDArray[np.int64]", getattr(self, name))

    def counts(self, samples: Samples) -> dict[str, dict[str, int]]:
        """Images per split and class."""
        return {
            split: {name: int(np.sum(samples.labels[self.index(split)] == label))
                    for label, name in enumerate(samples.classes)}
            for split in SPLITS
        }  # fmt: skip


def make_split(samples: Samples, assigned: Sequence[str], kind: str) -> Split:
    """The split in which sample i is in the set `assigned[i]`, or left out if that is empty.

    Args:
        samples: the samples to split.
        assigned: `train`, `val`, `test` or an empty string for each sample.
        kind: how the split was made.

    Raises:
        UserError: a class is missing in one of the sets.
    """
    where = np.array(assigned)
    index = {split: np.flatnonzero(where == split).astype(np.int64) for split in SPLITS}
    missing = [f"no {name} in {split}" for split in SPLITS for label, name in enumerate(samples.classes)
               if not np.any(samples.labels[index[split]] == label)]  # fmt: skip
    if missing:
        totals = dict(zip(samples.classes, _per_class(samples).tolist(), strict=True))
        few = [f"{count} of class {name!r}" for name, count in totals.items() if count < len(SPLITS)]
        repair = {
            "file": "list such images in data.split.file",
            "official": "set data.split.by=person",
        }.get(kind, "change data.split.test or data.split.val")
        raise UserError(
            f"each of train, val and test needs {'both classes' if len(totals) == 2 else 'every class'}, got "
            f"{_first(missing, ', ')}; " + (f"there are only {_first(few, ' and ')}: add images" if few else repair)
        )
    fingerprint = hashlib.sha256(kind.encode())
    for line in sorted(f"{split} {samples.labels[i]} {samples.digests[i]}" for split in SPLITS for i in index[split]):
        fingerprint.update(b"\n" + line.encode())
    return Split(kind, index["train"], index["val"], index["test"], fingerprint.hexdigest())


def split_by_group(
    samples: Samples, groups: Sequence[str] | NDArray[np.int64], *, kind: str, test: float, val: float, seed: int
) -> Split:
    """A split that keeps each group in one set and meets the fractions in each class to within a few images.

    Groups are assigned from large to small, each to a random set with a probability proportional to what the set still
    needs. So all sizes are spread over the sets, and the small groups fill the gaps.

    Args:
        samples: the samples to split.
        groups: the group of each sample; any values, of which equal ones are a group.
        kind: how the groups were made.
        test: fraction of all images for the test set, in (0, 1).
        val: fraction of all images for the validation set, in (0, 1).
        seed: seed of the split.

    Raises:
        UserError: the fractions leave nothing to train on, or a class has too few groups to be in every set.
    """
    check_fractions(test, val)
    check_counts(samples)
    members = _members(groups)
    sizes = [_counts(samples.labels[member]) for member in members]
    totals = _per_class(samples)
    groups_of = np.bincount([label for counts in sizes for label, _ in counts], minlength=len(totals))
    few = [
        f"of class {name!r}, got {persons} in {images} images"
        for name, persons, images in zip(samples.classes, groups_of.tolist(), totals.tolist(), strict=True)
        if persons < len(SPLITS)
    ]
    if few:
        unit = unit_of(samples.classes)
        raise UserError(
            f"train, val and test need at least one {unit} each {_first(few, ', ')}; add images of others, or set "
            f"data.split.by=random, which separates images of one {unit}"
        )
    wanted = wanted_counts(totals, test, val)
    contents = [hashlib.sha256("\n".join(sorted(samples.digests[i] for i in member)).encode()).digest()
                for member in members]  # fmt: skip
    best, least = None, np.inf
    for attempt in range(_ATTEMPTS):
        split_of, missed = assign_groups(sizes, wanted, [_uniform(seed, attempt, content) for content in contents])
        if missed < least:
            best, least = split_of, missed
        if least <= len(samples) // 2000:
            break
    assert best is not None
    assigned = [""] * len(samples)
    for member, split in zip(members, best, strict=True):
        for i in member:
            assigned[i] = SPLITS[split]
    return make_split(samples, assigned, kind)


def check_counts(samples: Samples) -> None:
    """Raises UserError for all classes that have too few images to be in every set, however they are split."""
    few = [
        f"of class {name!r}, got {images}"
        for name, images in zip(samples.classes, _per_class(samples).tolist(), strict=True)
        if images < len(SPLITS)
    ]
    if few:
        raise UserError(f"train, val and test need at least one image each {_first(few, ', ')}; add images")


def split_at_random(samples: Samples, test: float, val: float, seed: int) -> Split:
    """A split that assigns each image independently, as in the paper, and may separate the eyes of one person."""
    check_fractions(test, val)
    order = sorted(range(len(samples)), key=lambda i: (samples.digests[i], samples.names[i]))
    assigned = [""] * len(samples)
    wanted = wanted_counts(_per_class(samples), test, val)
    of_class: list[list[int]] = [[] for _ in samples.classes]
    for i in order:
        of_class[samples.labels[i]].append(i)
    for label, unordered in enumerate(of_class):
        shuffled = sorted(unordered, key=lambda i: _hash(seed, "random", samples.digests[i]))
        ends = np.cumsum(wanted[:, label])
        for position, i in enumerate(shuffled):
            assigned[i] = SPLITS[int(np.searchsorted(ends, position, side="right"))]
    return make_split(samples, assigned, "random")


def official_split(samples: Samples) -> Split:
    """The official partition of the data set.

    Raises:
        UserError: the source has none, or a class is missing in one of the sets.
    """
    if samples.splits is None:
        raise UserError(
            f"data.split.by=official needs a data set with an official partition, got {samples.source}; "
            "add CelebA's list_eval_partition.txt or set data.split.by=person"
        )
    return make_split(samples, samples.splits, "official")


def check_fractions(test: float, val: float) -> None:
    """Raises UserError unless both fractions are above 0 and leave something to train on."""
    if not (0 < test < 1 and 0 < val < 1 and test + val < 1):
        raise UserError(
            f"data.split.test and data.split.val must be above 0 and sum to less than 1, got {test} and {val}"
        )


def sample_subset(samples: Samples, subset: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Sorted positions of a random subset with the given number of images of each class.

    The subset does not depend on how it is split, so `person` and `random` can be compared on the same images.

    Args:
        samples: the samples to choose from.
        subset: number of images by class name, as `subset_labels` takes it.
        seed: seed of the subset.

    Raises:
        UserError: a class is unknown or missing, or there are fewer images than required.
    """
    labels = subset_labels(subset, samples.classes)
    chosen: list[int] = []
    for name, count in subset.items():
        candidates = np.flatnonzero(samples.labels == labels[name]).tolist()
        if not 2 <= count <= len(candidates):
            raise UserError(f"data.subset.{name} must be in 2..{len(candidates)}, the number of images, got {count}")
        candidates.sort(key=lambda i: (_hash(seed, "subset", samples.digests[i]), samples.names[i]))
        chosen += candidates[:count]
    return np.array(sorted(chosen), dtype=np.int64)


def separated_persons(persons: Sequence[str], split: Split) -> dict[str, tuple[str, ...]]:
    """Persons with images in more than one set: the sets by person."""
    seen: dict[str, dict[str, None]] = {}
    for name in SPLITS:
        for i in split.index(name):
            seen.setdefault(persons[int(i)], {})[name] = None
    return {person: tuple(names) for person, names in seen.items() if len(names) > 1}


def warn_separated_persons(samples: Samples, split: Split) -> None:
    """Log a warning if a split that is not made by person separates images of one person."""
    separated = {} if samples.persons is None else separated_persons(samples.persons, split)
    if separated:
        unit = unit_of(samples.classes)
        person, names = next(iter(separated.items()))
        _log.warning(
            "%sS IN SEVERAL SPLITS: data.split.by=%s puts images of %d of %d %ss into more than one split "
            "(%s %s into %s first), so results are too optimistic; data.split.by=person keeps each %s in one",
            unit.upper(), split.kind, len(separated), len(set(samples.persons or ())), unit, unit, one_line(person),
            " and ".join(names), unit,
        )  # fmt: skip


def warn_missed_fractions(samples: Samples, split: Split, *, test: float, val: float) -> None:
    """Log a warning if the sizes of the sets are far from the fractions; large groups are never separated for them."""
    wanted = wanted_counts(_per_class(samples), test, val)
    missed = [
        f"{got} instead of {int(wanted[s, label])} of class {samples.classes[label]!r} in {name}"
        for s, name in enumerate(SPLITS)
        for label in range(len(samples.classes))
        if abs((got := int(np.sum(samples.labels[split.index(name)] == label))) - wanted[s, label])
        > max(2, wanted[s, label] / 2)
    ]
    if missed:
        _log.warning(
            "SPLITS OF OTHER SIZES: groups are too large for data.split.test and data.split.val: %s; "
            "data.split.by=random meets them but separates %ss, data.split.by=file accepts a list of %ss",
            one_line(_first(missed, ", ")),
            unit_of(samples.classes),
            unit_of(samples.classes),
        )


def _per_class(samples: Samples) -> NDArray[np.int64]:
    """Images of each class."""
    return np.bincount(samples.labels, minlength=len(samples.classes)).astype(np.int64)


def _counts(labels: NDArray[np.uint8 | np.uint16]) -> list[tuple[int, int]]:
    """The labels of a group with their numbers of images."""
    found = labels.tolist()
    return [(label, found.count(label)) for label in sorted(set(found))]


def _first(phrases: list[str], between: str) -> str:
    """The first phrases of a message about many classes."""
    return between.join(phrases[:_MOST_NAMED]) + (
        f" and {len(phrases) - _MOST_NAMED} more" if len(phrases) > _MOST_NAMED else ""
    )


def _members(groups: Sequence[str] | NDArray[np.int64]) -> list[list[int]]:
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return list(members.values())


def wanted_counts(totals: NDArray[np.int64], test: float, val: float) -> NDArray[np.int64]:
    """Wanted number of images per set (train, val, test) and class: shape (3, K), at least one each."""
    wanted = np.zeros((3, len(totals)), dtype=np.int64)
    for label, total in enumerate(totals.tolist()):
        wanted[2, label] = max(1, round(total * test))
        wanted[1, label] = max(1, round(total * val))
        wanted[0, label] = total - wanted[1:, label].sum()
    return wanted


def _hash(*values: object) -> bytes:
    return hashlib.sha256("\0".join(str(value) for value in values).encode(errors="surrogateescape")).digest()


def _uniform(seed: int, attempt: int, content: bytes) -> float:
    """A number in [0, 1) that depends on the seed, the attempt and the contents of a group."""
    digest = hashlib.sha256(f"{seed} {attempt} ".encode() + content).digest()
    return int.from_bytes(digest[:7]) / 2**56
