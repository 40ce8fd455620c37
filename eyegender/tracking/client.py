"""How long a request to the tracking store is waited for."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
SECONDS, LONGEST = 20, 3600  # a request's limit, and an upload's
SLOWEST = 1e6  # bytes per second at which an upload is still waited for


def request_seconds() -> int:
    """How long MLflow waits for the answer to a request."""
    asked = os.environ.get(TIMEOUT, "")
    return int(asked) if asked.isdigit() else SECONDS


def upload_seconds(size: int, attempt: int) -> int:
    """How long an upload of `size` bytes is waited for; a proxy may pass all of it on before it answers."""
    base = request_seconds()
    return max(base, min(LONGEST, int((base + size / SLOWEST) * 2**attempt)))


@contextmanager
def waiting_for(paths: list[Path], attempt: int) -> Iterator[None]:
    """Give the requests inside the time that these files and folders need; MLflow takes it from the environment only.

    Args:
        paths: about to be sent.
        attempt: 0 for the first; each next one is waited for twice as long.
    """
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
    before = os.environ.get(TIMEOUT)
    os.environ[TIMEOUT] = str(upload_seconds(sum(file.stat().st_size for file in files), attempt))
    try:
        yield
    finally:
        if before is None:
            del os.environ[TIMEOUT]
        else:
            os.environ[TIMEOUT] = before
