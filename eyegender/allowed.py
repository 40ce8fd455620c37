"""Which classes a config may build: a config can come from a stranger's run, and a `_target_` runs code."""

from __future__ import annotations

import importlib
import os
from typing import TypeVar

from eyegender.errors import UserError

T = TypeVar("T")

EXTRA = "EYEGENDER_PLUGINS"  # comma-separated packages whose backbones and readers may be built, too


def load_class(path: str, base: type[T]) -> type[T]:
    """The subclass of `base` at the dotted `path`.

    Raises:
        UserError: outside the allowed packages, missing, something else than a `base`, or brought into eyegender from
            elsewhere by its imports.
    """
    packages = ["eyegender", *filter(None, os.environ.get(EXTRA, "").split(","))]
    if path.partition(".")[0] not in packages:
        raise UserError(f"{path} is not built: only classes of {', '.join(packages)} are; add its package to {EXTRA}")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no class {path} ({error}); correct _target_") from error
    if path.startswith("eyegender.") and isinstance(found, type) and not found.__module__.startswith("eyegender."):
        raise UserError(f"{path} is not built: it is {found.__module__}'s; correct _target_")
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(f"{path} is no {base.__name__}; correct _target_")
    return found
