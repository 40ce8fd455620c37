"""What is worth a line about a split that could be made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import one_line
from eyegender.data.splits import PARTS, wanted_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.data.samples import Samples
    from eyegender.data.splits import Split

_log = logging.getLogger(__name__)


def parted_persons(persons: Sequence[str], split: Split) -> dict[str, tuple[str, ...]]:
    """Persons with pictures in more than one part: the parts by person."""
    seen: dict[str, dict[str, None]] = {}
    for part in PARTS:
        for i in split.part(part):
            seen.setdefault(persons[int(i)], {})[part] = None
    return {person: tuple(parts) for person, parts in seen.items() if len(parts) > 1}


def warn_of_parted_persons(samples: Samples, split: Split) -> None:
    """Nobody asked for a split by person; that this one parts some is worth a line all the same."""
    parted = {} if samples.persons is None else parted_persons(samples.persons, split)
    if parted:
        person, parts = next(iter(parted.items()))
        _log.warning(
            "PERSONS IN SEVERAL PARTS: data.split.by=%s puts %d of %d persons into more than one part (person %s into "
            "%s first), which flatters; data.split.by=person keeps each in one",
            split.kind, len(parted), len(set(samples.persons or ())), one_line(person), " and ".join(parts),
        )  # fmt: skip


def warn_of_missed_fractions(samples: Samples, split: Split, *, test: float, val: float) -> None:
    """Groups are never torn for the sake of a fraction; few and large ones can miss it by far."""
    wanted = wanted_counts(np.bincount(samples.labels, minlength=2), test, val)
    missed = [
        f"{got} instead of {int(wanted[p, label])} of class {samples.classes[label]!r} in {part}"
        for p, part in enumerate(PARTS)
        for label in (0, 1)
        if abs((got := int(np.sum(samples.labels[split.part(part)] == label))) - wanted[p, label])
        > max(2, wanted[p, label] / 2)
    ]
    if missed:
        _log.warning(
            "PARTS OF OTHER SIZES: too many pictures stay together for data.split.test and data.split.val: %s; "
            "data.split.by=random meets them but parts persons, data.split.by=file takes a list of persons",
            one_line(", ".join(missed)),
        )
