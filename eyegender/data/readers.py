"""Data sources: what a reader returns, and how a reader is built from a config. Imports neither torch nor Pillow."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from eyegender.core.schema import DataSection

_TYPES: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


@dataclass(frozen=True)
class Samples:
    """N labeled images, sorted by name, so that the order of a folder's listing has no effect.

    Texts are a tuple each, or a `TextColumn`, which takes less memory and time where there are very many.

    Args:
        source: name of the reader (`synthetic`, `folder`, `celeba`), as it appears in reports.
        names: N unique names, relative and with forward slashes (`femaleeyes/12.jpg`, `000001.jpg#left`).
        labels: the class of each image as a position in `classes`, of type `label_type(classes)` and shape (N,).
        digests: N content hashes (hex) of the encoded image and of the region that the reader crops. Two samples with
            the same digest are the same image.
        open: opens sample i as a PIL image of any mode and size, already cropped. Raises `UnreadableImageError` if the
            image cannot be read. Safe to call from several threads.
        classes: the class names in the order of the labels, two or more.
        persons: N person identifiers, or None if the source does not know them.
        splits: N of `train`, `val`, `test` if the source has an official partition, else None.
        attributes: further facts per sample by name (CelebA's attributes), each of shape (N,).
        files: N content hashes of the files that samples are cropped from, or None if each sample is a file.
        sizes: int32 of shape (N, 2), width and height of the opened image in pixels, as far as file headers tell, else
            0; or None if the source does not know them before decoding.
    """

    source: str
    names: Sequence[str]
    labels: NDArray[np.uint8 | np.uint16]
    digests: Sequence[str]
    open: Callable[[int], Image.Image]
    classes: tuple[str, ...] = ("female", "male")
    persons: Sequence[str] | None = None
    splits: Sequence[str] | None = None
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    files: Sequence[str] | None = None
    sizes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def in_columns(self) -> Samples:
        """The same samples with each sequence of texts as a `TextColumn`."""
        from eyegender.data.text_columns import text_column

        return replace(
            self,
            names=text_column(self.names),
            digests=text_column(self.digests),
            persons=None if self.persons is None else text_column(self.persons),
            splits=None if self.splits is None else text_column(self.splits),
            files=None if self.files is None else text_column(self.files),
        )

    def take(self, index: NDArray[np.int64]) -> Samples:
        """The samples at `index`, in that order."""
        from eyegender.data.text_columns import take_texts

        opener = self.open
        return Samples(
            source=self.source,
            names=take_texts(self.names, index),
            labels=self.labels[index],
            digests=take_texts(self.digests, index),
            open=lambda i: opener(int(index[i])),
            classes=self.classes,
            persons=None if self.persons is None else take_texts(self.persons, index),
            splits=None if self.splits is None else take_texts(self.splits, index),
            attributes={name: values[index] for name, values in self.attributes.items()},
            files=None if self.files is None else take_texts(self.files, index),
            sizes=None if self.sizes is None else self.sizes[index],
        )


@runtime_checkable
class Reader(Protocol):
    """A data source: a class in one file of `eyegender/data/`, named by `_target_` in one file of `conf/data/`.

    It may have three more methods: `check()` raises UserError if the source cannot be read, `check_counts(least)` if a
    class has fewer than `least` images, and `class_names()` returns the class names in the order of the labels, before
    anything is read. A source of three classes or more needs the last one.
    """

    def read(self) -> Samples:
        """List the samples, sorted by name, without decoding an image.

        Raises:
            UserError: the source is missing, malformed or has fewer than two images of a class.
        """
        ...


class UnreadableImageError(Exception):
    """An image that cannot be read; the message is the reason, without the name of the image."""


def label_type(classes: Sequence[str]) -> type[np.uint8] | type[np.uint16]:
    """The type of labels of that many classes."""
    import numpy as np

    return np.uint8 if len(classes) <= 256 else np.uint16


def build_reader(data: DataSection) -> Reader:
    """The data source of a config. Its arguments are checked against its signature before it reads anything.

    Raises:
        UserError: the class is not an allowed one, or its arguments do not fit.
    """
    cls = load_class(data.reader.target, Reader)  # type: ignore[type-abstract]
    try:
        inspect.signature(cls).bind(**data.reader.arguments)
    except TypeError as error:
        raise UserError(f"data.reader: {cls.__name__} {error}; correct the keys under data.reader") from error
    _check_types(cls, data.reader.arguments)
    return cls(**data.reader.arguments)


def split_options(data: DataSection) -> dict[str, Any]:
    """The arguments of `EyesDataModule` that choose the subset and the split."""
    return {
        "subset": data.subset,
        "split_by": data.split.by,
        "split_file": data.split.file,
        "test_fraction": data.split.test,
        "val_fraction": data.split.val,
        "split_seed": data.split.seed,
    }


def check_source(data: DataSection, *, to_train: bool = False) -> None:
    """Check a data source without reading an image, so that a misspelt folder is reported at once.

    Args:
        data: config of the source.
        to_train: check, too, that each class has an image for each of train, val and test.

    Raises:
        UserError: as `build_reader` and as the reader's own `check`, if it has one; or no split can be made.
    """
    split = data.split
    if split.by == "file" and not (split.file and Path(split.file).expanduser().is_file()):
        raise UserError(f"data.split.file must be a file for data.split.by=file, got {split.file}; set data.split.file")
    if split.by in {"person", "random"}:
        from eyegender.data.splits import check_fractions

        check_fractions(split.test, split.val)
    reader = build_reader(data)
    check = getattr(reader, "check", None)
    if check is not None:
        check()
    if to_train:
        if data.subset is not None and min(data.subset.values(), default=3) < 3:
            raise UserError(
                "data.subset must be 3 or more for each class, one image for each of train, val and test, got "
                f"{dict(data.subset)}; set larger numbers"
            )
        if hasattr(reader, "check_counts"):
            reader.check_counts(3)
    if data.subset is not None and hasattr(reader, "class_names"):
        subset_labels(data.subset, reader.class_names())


def class_names(data: DataSection) -> tuple[str, ...] | None:
    """The class names of a data source in the order of the labels; None if it tells only after reading.

    Raises:
        UserError: as `build_reader`, or the source does not exist.
    """
    reader = build_reader(data)
    names: tuple[str, ...] | None = reader.class_names() if hasattr(reader, "class_names") else None
    return names


def with_class_names(data: DataSection) -> DataSection:
    """The data section with the classes that its source finds, if `reader.classes` is null or has other names for them.

    A stored config thus says what the labels mean, even if the source gets another class later. Other names are values
    such as true, which YAML has read in place of a folder's name.

    Raises:
        UserError: as `class_names`.
    """
    arguments = data.reader.arguments
    if "classes" not in arguments or not (arguments["classes"] is None or isinstance(arguments["classes"], list)):
        return data
    names = class_names(data)
    if names is None or (arguments["classes"] is not None and names == tuple(map(str, arguments["classes"]))):
        return data
    reader = type(data.reader).model_validate({"_target_": data.reader.target, **arguments, "classes": list(names)})
    return data.model_copy(update={"reader": reader, "classes": list(names)})


def subset_labels(subset: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
    """The label of each name in `data.subset`: a class, or of two classes `female` for label 0 and `male` for label 1.

    Raises:
        UserError: a class is unknown, missing or named twice.
    """
    alias = dict(zip(("female", "male"), (0, 1), strict=True)) if len(classes) == 2 else {}
    alias |= {name: label for label, name in enumerate(classes)}
    labels = {name: alias[name] for name in subset if name in alias}
    if len(labels) < len(subset) or sorted(labels.values()) != list(range(len(classes))):
        each = "name both once" if len(classes) == 2 else "name each once"
        raise UserError(f"data.subset must give a number for each of {', '.join(classes)}, got {dict(subset)}; {each}")
    return labels


def _check_types(cls: type[Reader], arguments: Mapping[str, Any]) -> None:
    """Readers check ranges themselves, but cannot compare a list or a text in place of a number."""
    for name, parameter in inspect.signature(cls).parameters.items():
        # The annotation is a string if the reader's module postpones its annotations.
        kind = getattr(parameter.annotation, "__name__", parameter.annotation)
        if name in arguments and kind in _TYPES and type(arguments[name]) not in _TYPES[kind]:
            raise UserError(f"data.reader.{name} must be {_TYPE_NAMES[kind]}, got {arguments[name]!r}; correct it")
        if kind == "str | Path" and name in arguments:
            _check_path(name, arguments[name])
        if kind == "float" and name in arguments and not math.isfinite(arguments[name]):
            raise UserError(f"data.reader.{name} must be a finite number, got {arguments[name]!r}; correct it")


def _check_path(name: str, value: Any) -> None:
    """Raises UserError unless a path is text: YAML reads a folder's name such as 2024 as a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise UserError(
            f"data.{name} must be a folder as text, got the number {value}; quote it: 'data.{name}=\"{value}\"'"
        )
    if not isinstance(value, str | Path) or not str(value).strip():
        got = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
        raise UserError(f"data.{name} must be a folder, got {got}; set data.{name}=FOLDER")
