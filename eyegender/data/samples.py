"""What a reader hands on: names, labels, persons and a way to open each picture, nothing decoded yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class Samples:
    """N labelled eyes in an order of their own: sorted by name, so that no listing order shows through.

    Args:
        source: the reader's name (`synthetic`, `folder`, `celeba`), as it appears in reports.
        names: N unique names, relative and with forward slashes (`femaleeyes/12.jpg`, `000001.jpg#left`).
        labels: uint8 of shape (N,), 0 = female, 1 = male.
        digests: N content hashes (hex), of the encoded picture and of whatever the reader cuts out of it. Two samples
            with one digest are the same picture.
        open: opens sample i as a PIL image of any mode and size, already cropped. Raises `BadPictureError` when it
            cannot be read. Safe to call from several threads.
        classes: the two class names in label order.
        persons: N person identifiers, or None where the source does not know them.
        parts: N of `train`, `val`, `test` where the source brings an official partition, else None.
        attributes: further per-sample facts by name (CelebA's attributes), each of shape (N,).
        files: N content hashes of the files that samples are cut out of, or None where a sample is a file.
        sizes: int32 of shape (N, 2), width and height in pixels of what `open` gives as far as headers tell (0 where
            they do not), or None where the source does not know before decoding.
    """

    source: str
    names: tuple[str, ...]
    labels: NDArray[np.uint8]
    digests: tuple[str, ...]
    open: Callable[[int], Image.Image]
    classes: tuple[str, str] = ("female", "male")
    persons: tuple[str, ...] | None = None
    parts: tuple[str, ...] | None = None
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    files: tuple[str, ...] | None = None
    sizes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, index: NDArray[np.int64]) -> Samples:
        """The samples at `index`, in that order."""
        chosen = [int(i) for i in index]
        opener = self.open
        return Samples(
            source=self.source,
            names=tuple(self.names[i] for i in chosen),
            labels=self.labels[index],
            digests=tuple(self.digests[i] for i in chosen),
            open=lambda i: opener(chosen[i]),
            classes=self.classes,
            persons=None if self.persons is None else tuple(self.persons[i] for i in chosen),
            parts=None if self.parts is None else tuple(self.parts[i] for i in chosen),
            attributes={name: values[index] for name, values in self.attributes.items()},
            files=None if self.files is None else tuple(self.files[i] for i in chosen),
            sizes=None if self.sizes is None else self.sizes[index],
        )


@runtime_checkable
class Reader(Protocol):
    """A data source: one class in one file of `eyegender/data/`, named by `_target_` in one file of `conf/data/`."""

    def read(self) -> Samples:
        """List the samples, sorted by name, without decoding a picture.

        Raises:
            UserError: the source is missing, malformed or has fewer than two pictures of a class.
        """
        ...


class BadPictureError(Exception):
    """A picture that cannot be read; the message says why, without the picture's name."""
