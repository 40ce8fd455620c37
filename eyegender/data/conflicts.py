"""The same picture under both labels: whatever a network learns from one copy, the other contradicts."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Literal

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from eyegender.data.pixel_cache import PixelStore
    from eyegender.data.samples import Samples

OnConflict = Literal["error", "drop", "keep"]
_log = logging.getLogger(__name__)


def find_conflicts(samples: Samples, store: PixelStore) -> list[list[int]]:
    """Positions of the copies of each picture that lies in both classes, in ascending order.

    Copies are files of equal bytes, or pictures of equal pixels (another format, other metadata). Only pictures that
    the store cannot tell apart are decoded once more.

    Args:
        samples: readable ones.
        store: their pixels.
    """
    found = _in_both(samples, enumerate(samples.files)) if samples.files is not None else []
    known = {i for copies in found for i in copies}
    rows = store.rows(samples.digests)
    for candidates in _in_both(samples, enumerate(store.checksums[rows].tolist())):
        one_of = {samples.digests[i]: i for i in candidates}
        pixels = {digest: _pixels(samples, i) if len(one_of) > 1 else digest for digest, i in one_of.items()}
        copies = _in_both(samples, ((i, pixels[samples.digests[i]]) for i in candidates))
        found += [some for some in copies if not known.issuperset(some)]
    return sorted(found)


def check_conflicts(samples: Samples, conflicts: list[list[int]], on_conflict: OnConflict) -> list[int]:
    """Positions of the samples to leave out.

    Raises:
        UserError: there are conflicts, and `on_conflict` is `error`.
    """
    if not conflicts:
        return []
    lines = tuple(" = ".join(samples.names[i] for i in copies) for copies in conflicts)
    copies = sorted({i for some in conflicts for i in some})
    if on_conflict == "error":
        raise UserError(
            f"a picture must be in one class, got {len(conflicts)} in both ({_one_of_each(samples, conflicts[0])}); "
            f"remove the wrong copies, or set data.on_conflict=drop, which leaves out all {len(copies)}",
            lines,
        )
    if on_conflict == "keep":
        _log.warning("%d pictures are in both classes and keep both labels", len(conflicts))
        return []
    _log.warning("%d pictures are in both classes; all %d copies are left out", len(conflicts), len(copies))
    return copies


def _in_both(samples: Samples, keys: Iterable[tuple[int, Hashable]]) -> list[list[int]]:
    """Positions of equal keys that occur with both labels."""
    places: dict[Hashable, list[int]] = {}
    for i, key in keys:
        places.setdefault(key, []).append(i)
    return [some for some in places.values() if len(some) > 1 and len(set(samples.labels[some].tolist())) > 1]


def _one_of_each(samples: Samples, copies: list[int]) -> str:
    """`a/1.jpg = b/7.jpg`, of whatever many copies."""
    first = {int(samples.labels[i]): samples.names[i] for i in reversed(copies)}
    return f"{first[0]} = {first[1]}"


def _pixels(samples: Samples, i: int) -> str:
    image = samples.open(i)
    return hashlib.sha256(f"{image.size} ".encode() + image.convert("RGB").tobytes()).hexdigest()
