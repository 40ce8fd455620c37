"""Splits samples into training, validation and test sets, depending only on the seed and the contents of the images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.core.eye_study import unit_of
from eyegender.data.readers import subset_labels
from eyegender.data.splits.assignment import GroupSizes, assign_groups
from eyegender.data.splits.hashing import chances, group_contents, shuffled, split_fingerprint
from eyegender.data.text_columns import sorting_order, text_array, text_codes

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
    where = text_array(assigned)
    return _split(samples, {split: np.flatnonzero(where == split.encode()).astype(np.int64) for split in SPLITS}, kind)


def _split(samples: Samples, index: dict[str, NDArray[np.int64]], kind: str) -> Split:
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
    fingerprint = split_fingerprint(kind, text_array(samples.digests), samples.labels, index)
    return Split(kind, index["train"], index["val"], index["test"], fingerprint)


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
    codes, _ = text_codes(groups if isinstance(groups, np.ndarray) else text_array(groups))
    sizes = GroupSizes.of(codes, samples.labels, len(samples.classes))
    totals = _per_class(samples)
    groups_of = np.bincount(sizes.labels, minlength=len(totals))
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
    contents = group_contents(text_array(samples.digests), codes)
    best, least = None, np.inf
    for attempt in range(_ATTEMPTS):
        split_of, missed = assign_groups(sizes, wanted, chances(seed, attempt, contents))
        if missed < least:
            best, least = split_of, missed
        if least <= len(samples) // 2000:
            break
    assert best is not None
    return _split(samples, _index(best[codes]), kind)


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
    digests = text_array(samples.digests)
    order = _by_name(samples)
    order = order[sorting_order(digests[order])]
    wanted = wanted_counts(_per_class(samples), test, val)
    split_of = np.empty(len(samples), dtype=np.int64)
    for label in range(len(samples.classes)):
        unordered = order[samples.labels[order] == label]
        ordered = unordered[shuffled(digests[unordered], seed, "random")]
        split_of[ordered] = np.searchsorted(np.cumsum(wanted[:, label]), np.arange(len(ordered)), side="right")
    return _split(samples, _index(split_of), "random")


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
    digests, by_name = text_array(samples.digests), _by_name(samples)
    chosen = []
    for name, count in subset.items():
        candidates = by_name[samples.labels[by_name] == labels[name]]
        if not 2 <= count <= len(candidates):
            raise UserError(f"data.subset.{name} must be in 2..{len(candidates)}, the number of images, got {count}")
        chosen.append(candidates[shuffled(digests[candidates], seed, "subset")][:count])
    return np.sort(np.concatenate(chosen))


def separated_persons(persons: Sequence[str], split: Split) -> dict[str, tuple[str, ...]]:
    """Persons with images in more than one set: the sets by person."""
    codes, count = text_codes(text_array(persons))
    seen = np.zeros((count, len(SPLITS)), dtype=np.bool_)
    for s, name in enumerate(SPLITS):
        seen[codes[split.index(name)], s] = True
    several = np.flatnonzero(seen.sum(axis=1) > 1)
    # In the order in which the sets show them.
    shown = np.concatenate([split.index(name) for name in SPLITS])
    shown = shown[np.isin(codes[shown], several)]
    return {
        persons[int(shown[i])]: tuple(name for s, name in enumerate(SPLITS) if seen[codes[shown[i]], s])
        for i in np.sort(np.unique(codes[shown], return_index=True)[1]).tolist()
    }


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


def _by_name(samples: Samples) -> NDArray[np.int64]:
    """All positions in the order of the names."""
    return sorting_order(text_array(samples.names))


def _index(split_of: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The positions of each set, from the position in `SPLITS` of each sample's set."""
    return {name: np.flatnonzero(split_of == s).astype(np.int64) for s, name in enumerate(SPLITS)}


def _first(phrases: list[str], between: str) -> str:
    """The first phrases of a message about many classes."""
    return between.join(phrases[:_MOST_NAMED]) + (
        f" and {len(phrases) - _MOST_NAMED} more" if len(phrases) > _MOST_NAMED else ""
    )


def wanted_counts(totals: NDArray[np.int64], test: float, val: float) -> NDArray[np.int64]:
    """Wanted number of images per set (train, val, test) and class: shape (3, K), at least one each."""
    wanted = np.zeros((3, len(totals)), dtype=np.int64)
    for label, total in enumerate(totals.tolist()):
        wanted[2, label] = max(1, round(total * test))
        wanted[1, label] = max(1, round(total * val))
        wanted[0, label] = total - wanted[1:, label].sum()
    return wanted
