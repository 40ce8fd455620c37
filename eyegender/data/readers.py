"""From a checked config to a data source. Imports neither torch nor anything else that takes a second."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.data.samples import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.core.schema import DataSection

_KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def build_reader(data: DataSection) -> Reader:
    """The data source, its arguments bound to its signature before it reads anything.

    Raises:
        UserError: not one of ours or of an allowed package, or its arguments do not fit.
    """
    cls = load_class(data.reader.target, Reader)  # type: ignore[type-abstract]
    try:
        inspect.signature(cls).bind(**data.reader.arguments)
    except TypeError as error:
        raise UserError(f"data.reader: {cls.__name__} {error}; correct the keys under data.reader") from error
    _check_kinds(cls, data.reader.arguments)
    return cls(**data.reader.arguments)


def _check_kinds(cls: type[Reader], arguments: Mapping[str, Any]) -> None:
    """A reader checks ranges; a list or a word in place of a number it could not even compare."""
    for name, parameter in inspect.signature(cls).parameters.items():
        # As a string where the reader's module postpones its annotations.
        kind = getattr(parameter.annotation, "__name__", parameter.annotation)
        if name in arguments and kind in _KINDS and type(arguments[name]) not in _KINDS[kind]:
            raise UserError(f"data.reader.{name} must be {_NAMES[kind]}, got {arguments[name]!r}; correct it")
        if kind == "float" and name in arguments and not math.isfinite(arguments[name]):
            raise UserError(f"data.reader.{name} must be a finite number, got {arguments[name]!r}; correct it")


def check_source(data: DataSection) -> None:
    """What can be said of a data source before a picture is read: a mistyped folder shows at once.

    Raises:
        UserError: as `build_reader`, as the reader's own `check`, where it has one, or parts that cannot be drawn.
    """
    split = data.split
    if split.by == "file" and not (split.file and Path(split.file).expanduser().is_file()):
        raise UserError(f"data.split.file must be a file for data.split.by=file, got {split.file}; set data.split.file")
    if split.by in {"person", "random"}:
        from eyegender.data.splits import check_fractions

        check_fractions(split.test, split.val)
    check = getattr(build_reader(data), "check", None)
    if check is not None:
        check()
