"""From a checked config to a data source. Imports neither torch nor anything else that takes a second."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from eyegender.allowed import load_class
from eyegender.data.samples import Reader
from eyegender.errors import UserError

if TYPE_CHECKING:
    from eyegender.schema import DataSection


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
    return cls(**data.reader.arguments)


def check_source(data: DataSection) -> None:
    """What can be said of a data source before a picture is read: a mistyped folder shows at once.

    Raises:
        UserError: as `build_reader`, or as the reader's own `check`, where it has one.
    """
    check = getattr(build_reader(data), "check", None)
    if check is not None:
        check()
