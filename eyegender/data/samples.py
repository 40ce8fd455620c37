"""Earlier names in `eyegender.data.readers`, for data sources that were written for version 0.1."""

from __future__ import annotations

import warnings
from typing import Any

from eyegender.data import readers
from eyegender.data.readers import Reader
from eyegender.data.readers import UnreadableImageError as BadPictureError

__all__ = ["BadPictureError", "Reader", "Samples"]

warnings.warn(
    "eyegender.data has a new module readers in place of samples; BadPictureError is now UnreadableImageError, and the "
    "field parts of Samples is now splits",
    FutureWarning,
    stacklevel=2,
)


class Samples(readers.Samples):
    """`Samples` that also accept the name `parts` for the field `splits`."""

    def __init__(self, *fields: Any, **named: Any) -> None:
        if "parts" in named:
            named["splits"] = named.pop("parts")
        super().__init__(*fields, **named)
