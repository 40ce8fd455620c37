"""Checks of the images themselves: some cannot be read, and some are in two classes."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Literal

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

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
    skipped = {name: bad[digest] for name, digest in zip(samples.names, samples.digests, strict=True) if digest in bad}
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


def find_conflicts(samples: Samples, store: PixelStore) -> list[list[int]]:
    """For each image that is in two classes, the positions of its copies in ascending order.

    Copies are files of equal bytes, or images of equal pixels (in another format or with other metadata). Only images
    with equal checksums in the store are decoded once more.

    Args:
        samples: readable samples.
        store: their pixels.
    """
    found = _in_two_classes(samples, enumerate(samples.files)) if samples.files is not None else []
    known = {i for copies in found for i in copies}
    rows = store.rows(samples.digests)
    for candidates in _in_two_classes(samples, enumerate(store.checksums[rows].tolist())):
        example = {samples.digests[i]: i for i in candidates}
        pixels = {digest: _hash_pixels(samples, i) if len(example) > 1 else digest for digest, i in example.items()}
        copies = _in_two_classes(samples, ((i, pixels[samples.digests[i]]) for i in candidates))
        found += [some for some in copies if not known.issuperset(some)]
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


def _in_two_classes(samples: Samples, keys: Iterable[tuple[int, Hashable]]) -> list[list[int]]:
    """The positions of equal keys that occur with several labels."""
    positions: dict[Hashable, list[int]] = {}
    for i, key in keys:
        positions.setdefault(key, []).append(i)
    return [some for some in positions.values() if len(some) > 1 and len(set(samples.labels[some].tolist())) > 1]


def _example(samples: Samples, copies: list[int]) -> str:
    """One copy of each class, such as `a/1.jpg = b/7.jpg`."""
    first = {int(samples.labels[i]): samples.names[i] for i in reversed(copies)}
    return " = ".join(first[label] for label in sorted(first))


def _hash_pixels(samples: Samples, i: int) -> str:
    image = samples.open(i)
    return hashlib.sha256(f"{image.size} ".encode() + image.convert("RGB").tobytes()).hexdigest()
