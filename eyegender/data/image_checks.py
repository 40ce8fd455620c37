"""Checks of the images themselves: some cannot be read, and some are in two classes."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from eyegender.core.errors import UserError
from eyegender.data.text_columns import text_array, text_codes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.readers import Samples

OnConflict = Literal["error", "drop", "keep"]
_log = logging.getLogger(__name__)


def check_readable(samples: Samples, bad: Mapping[str, str], on_bad: Literal["error", "skip"]) -> Mapping[str, str]:
    """The images to leave out: reasons by name.

    Args:
        samples: all samples.
        bad: reasons by digest.
        on_bad: `skip` leaves unreadable images out, with a warning.

    Raises:
        UserError: there are unreadable images, and `on_bad` is `error`; lists all of them.
    """
    skipped = {samples.names[i]: bad[samples.digests[i]] for i in np.flatnonzero(is_unreadable(samples, bad)).tolist()}
    lines = tuple(f"{name}: {reason}" for name, reason in skipped.items())
    if skipped and on_bad == "error":
        raise UserError(
            f"every image must be readable, got {len(skipped)} of {len(samples)} that are not ({lines[0]}); "
            "repair or remove them, or set data.on_bad=skip",
            lines,
        )
    if skipped:
        _log.warning("%d of %d images cannot be read and are left out", len(skipped), len(samples))
    return skipped


def is_unreadable(samples: Samples, bad: Mapping[str, str]) -> NDArray[np.bool_]:
    """Whether each sample's digest is one of an unreadable image."""
    if not bad:
        return np.zeros(len(samples), dtype=np.bool_)
    return np.isin(text_array(samples.digests), text_array(bad))


def find_conflicts(samples: Samples, store: PixelStore, rows: NDArray[np.int64]) -> list[list[int]]:
    """For each image that is in two classes, the positions of its copies in ascending order.

    Copies are files of equal bytes, or images of equal pixels (in another format or with other metadata). Only images
    with equal checksums in the store are decoded once more.

    Args:
        samples: readable samples.
        store: their pixels.
        rows: the row of each sample in the store.
    """
    labels = samples.labels
    found = [] if samples.files is None else _in_two_classes(labels, text_codes(text_array(samples.files))[0])
    known = {i for copies in found for i in copies}
    for candidates in _in_two_classes(labels, store.checksums[rows].astype(np.int64)):
        example = {samples.digests[i]: i for i in candidates}
        pixels = {digest: _hash_pixels(samples, i) if len(example) > 1 else digest for digest, i in example.items()}
        some = np.array(candidates)
        equal = _in_two_classes(labels[some], text_codes(text_array(pixels[samples.digests[i]] for i in candidates))[0])
        copies = [some[each].tolist() for each in equal]
        found += [each for each in copies if not known.issuperset(each)]
    return sorted(found)


def check_conflicts(samples: Samples, conflicts: list[list[int]], on_conflict: OnConflict) -> list[int]:
    """The positions of the samples to leave out.

    Args:
        samples: readable samples.
        conflicts: see `find_conflicts`.
        on_conflict: `drop` leaves out all copies, `keep` keeps them with both labels; both with a warning.

    Raises:
        UserError: there are conflicts, and `on_conflict` is `error`.
    """
    if not conflicts:
        return []
    lines = tuple(" = ".join(samples.names[i] for i in copies) for copies in conflicts)
    copies = sorted({i for some in conflicts for i in some})
    several = "both" if len(samples.classes) == 2 else "several"
    if on_conflict == "error":
        raise UserError(
            f"an image must be in one class, got {len(conflicts)} in {several} ({_example(samples, conflicts[0])}); "
            f"remove the wrong copies, or set data.on_conflict=drop, which leaves out all {len(copies)}",
            lines,
        )
    if on_conflict == "keep":
        labels = "both" if several == "both" else "all"
        _log.warning("%d images are in %s classes and keep %s labels", len(conflicts), several, labels)
        return []
    _log.warning("%d images are in %s classes; all %d copies are left out", len(conflicts), several, len(copies))
    return copies


def _in_two_classes(labels: NDArray[np.uint8 | np.uint16], keys: NDArray[np.int64]) -> list[list[int]]:
    """The positions of equal keys that occur with several labels."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]]))
    ends = np.append(starts[1:], len(keys))
    least, most = (extreme.reduceat(labels[order], starts) for extreme in (np.minimum, np.maximum))
    return [order[starts[k] : ends[k]].tolist() for k in np.flatnonzero(least != most).tolist()]


def _example(samples: Samples, copies: list[int]) -> str:
    """One copy of each class, such as `a/1.jpg = b/7.jpg`."""
    first = {int(samples.labels[i]): samples.names[i] for i in reversed(copies)}
    return " = ".join(first[label] for label in sorted(first))


def _hash_pixels(samples: Samples, i: int) -> str:
    image = samples.open(i)
    return hashlib.sha256(f"{image.size} ".encode() + image.convert("RGB").tobytes()).hexdigest()
