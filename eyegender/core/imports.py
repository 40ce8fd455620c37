"""Keeps Python's garbage collector out of imports, which make hundreds of thousands of objects and no garbage."""

from __future__ import annotations

import atexit
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_frozen = False


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage inside the context, in which large packages are imported for the first time.

    Each full collection looks at every object that exists. During the imports of torch and MLflow there are so many
    that they take a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def imports_of_command() -> Iterator[None]:
    """`without_collection` for a command's own imports: no later collection looks at what they have made.

    Only the first use in a process excludes it, because the next trial of a sweep finds objects of earlier ones.
    """
    global _frozen  # noqa: PLW0603 - of the process, as the collector is
    with without_collection():
        yield
        if not _frozen:
            _frozen = True
            gc.freeze()


def leave_quickly() -> None:
    """At the end of the process, leave its objects to the operating system instead of searching them for garbage."""
    atexit.register(gc.freeze)
