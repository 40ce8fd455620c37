"""Which classes a config may build: building a `_target_` runs code, and configs may come from untrusted runs."""

from __future__ import annotations

import importlib
import os
from typing import TypeVar

from eyegender.core.errors import UserError

T = TypeVar("T")

EXTRA_PACKAGES = "EYEGENDER_PLUGINS"  # comma-separated packages whose classes may be built, too


def load_class(path: str, base: type[T], package: str = "eyegender") -> type[T]:
    """The subclass of `base` at the dotted `path`.

    Args:
        path: package, module and name of the class.
        base: the class that it must be a subclass of.
        package: the package whose classes may be built, besides those in `EYEGENDER_PLUGINS`.

    Raises:
        UserError: the class is outside of the allowed packages, does not exist, is no subclass of `base`, or is only
            imported by a module of the package.
    """
    packages = [package, *filter(None, os.environ.get(EXTRA_PACKAGES, "").split(","))]
    if not any(path.startswith(f"{each}.") for each in packages):
        raise UserError(
            f"{path} is not built: only classes of {', '.join(packages)} are; add its package to {EXTRA_PACKAGES}"
        )
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
