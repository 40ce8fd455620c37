"""Hashes of the contents of images, on which subsets, splits and their fingerprints depend."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from eyegender.data.text_columns import joined_lines, sorting_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def shuffled(digests: NDArray[np.bytes_], *key: object) -> NDArray[np.int64]:
    """Positions in an order that depends on the key and the digests only; equal digests stay in their order."""
    prefix = "".join(f"{part}\0" for part in key).encode()
    hashes = _hashed(prefix, digests.tolist())
    order = np.argsort(hashes[:, 0], kind="stable")
    first = hashes[order, 0]
    if np.any(first[1:] == first[:-1]):
        return np.lexsort(hashes.T[::-1])
    return order


def group_contents(digests: NDArray[np.bytes_], codes: NDArray[np.int64]) -> list[bytes]:
    """A hash of the sorted digests of each group.

    Args:
        digests: the digest of each image.
        codes: the group of each image; groups are numbered from 0.
    """
    order = sorting_order(digests)
    order = order[np.argsort(codes[order], kind="stable")]
    lines = memoryview(b"".join(joined_lines(b"", digests[order], b"\n")))
    length = np.strings.str_len(digests[order]) + 1
    ends = np.cumsum(length)[np.cumsum(np.bincount(codes)) - 1].tolist()
    return [hashlib.sha256(lines[start : end - 1]).digest() for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def chances(seed: int, attempt: int, contents: Sequence[bytes]) -> NDArray[np.float64]:
    """A number in [0, 1) for each group, which depends on the seed, the attempt and the contents of the group."""
    first = _hashed(f"{seed} {attempt} ".encode(), contents)[:, 0]
    return (first >> 8).astype(np.float64) / 2**56


def split_fingerprint(
    kind: str, digests: NDArray[np.bytes_], labels: NDArray[np.uint8 | np.uint16], where: dict[str, NDArray[np.int64]]
) -> str:
    """Hex hash of which image with which label is in which set."""
    fingerprint = hashlib.sha256(kind.encode())
    parts = {
        f"\n{split} {label} ": index[labels[index] == label]
        for split, index in where.items()
        for label in np.unique(labels[index]).tolist()
    }
    for prefix in sorted(parts):
        some = digests[parts[prefix]]
        for piece in joined_lines(prefix.encode(), some[sorting_order(some)]):
            fingerprint.update(piece)
    return fingerprint.hexdigest()


def images_fingerprint(start: str, digests: NDArray[np.bytes_], labels: NDArray[np.uint8 | np.uint16]) -> str:
    """Hex hash of a text and of the images with their labels, whatever their order."""
    fingerprint = hashlib.sha256(start.encode())
    numbers = labels.astype(np.bytes_)
    order = sorting_order(numbers)
    order = order[sorting_order(digests[order])]
    for piece in joined_lines(b"\n", np.strings.add(np.strings.add(digests[order], b" "), numbers[order])):
        fingerprint.update(piece)
    return fingerprint.hexdigest()


def _hashed(prefix: bytes, values: Sequence[bytes]) -> NDArray[np.uint64]:
    """SHA-256 of each value after the prefix, as four numbers: shape (N, 4)."""
    sha256 = hashlib.sha256
    found = b"".join([sha256(prefix + value).digest() for value in values])
    return np.frombuffer(found, dtype=">u8").reshape(-1, 4).astype(np.uint64)
