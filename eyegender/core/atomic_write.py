"""Files of a run that a kill leaves as they were, or writes whole."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replaced(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write to, which is synced and gets the name `path` at the end; of a block that raises nothing stays."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)  # of a process that was killed; a run's folder has one writer
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
