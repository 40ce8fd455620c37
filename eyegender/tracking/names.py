"""Names of metrics and parameters that MLflow accepts, made of names of classes, which may be any text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The run of a data set with more classes logs no value of each one: every store would be full of them.
MOST_CLASSES = 50
_LONGEST = 120  # characters of a class; MLflow takes 250 for the whole name


def key_of(name: str) -> str:
    """The name with `_` for each character that MLflow refuses; not necessarily unique."""
    return re.sub(r"[^\w.\- ]", "_", name)[:_LONGEST]


def class_keys(classes: Sequence[str]) -> list[str]:
    """A unique key for each class; one that is not unique ends with the class's label.

    Example:
        >>> class_keys(["cats", "a+b", "a*b"])
        ['cats', 'a_b 1', 'a_b 2']
    """
    keys = [key_of(name) for name in classes]
    return [key if keys.count(key) == 1 else f"{key} {label}" for label, key in enumerate(keys)]
