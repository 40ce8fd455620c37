"""Which classes a config may build: a config can come from a stranger's run, and a `_target_` runs code."""

from __future__ import annotations

import importlib
import os
from typing import TypeVar

from eyegender.core.errors import UserError

T = TypeVar("T")

EXTRA = "EYEGENDER_PLUGINS"  # comma-separated packages whose classes may be built, too


def load_class(path: str, base: type[T], package: str = "eyegender") -> type[T]:
    """The subclass of `base` at the dotted `path`.

    Args:
        path: package, module and name of the class.
        base: what it must be a subclass of.
        package: the one whose own classes are built, beside those of the user's packages.

    Raises:
        UserError: outside the allowed packages, missing, something else than a `base`, or brought into the package
            from elsewhere by its imports.
    """
    packages = [package, *filter(None, os.environ.get(EXTRA, "").split(","))]
    if not any(path.startswith(f"{each}.") for each in packages):
        raise UserError(f"{path} is not built: only classes of {', '.join(packages)} are; add its package to {EXTRA}")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no class {path} ({error}); correct _target_") from error
    is_own = path.startswith(f"{package}.")
    if is_own and isinstance(found, type) and not f"{found.__module__}.".startswith(f"{package}."):
        raise UserError(f"{path} is not built: it is {found.__module__}'s; correct _target_")
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(f"{path} is no {base.__name__}; correct _target_")
    return found
