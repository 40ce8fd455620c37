"""Connects to an MLflow tracking store, and limits how long a request to it may take."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eyegender.core.imports import without_collection
from eyegender.tracking.local_store import open_database
from eyegender.tracking.location import database_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.tracking import MlflowClient

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
REQUEST_SECONDS, MAX_UPLOAD_SECONDS = 20, 3600
MIN_UPLOAD_SPEED = 1e6  # bytes per second; a slower upload times out
_clients: dict[tuple[object, ...], MlflowClient] = {}  # of `connect_again`, one at most
CONCURRENT_REQUESTS = 8  # most requests wait for an answer, and a server queues what it cannot handle at once


def connect(uri: str) -> MlflowClient:
    """A client of the tracking store at `uri`. A local store is created if it does not exist.

    Raises:
        StoreFaultError: a local store is damaged, or has the schema of another version of MLflow.
        Exception: any other error of MLflow, a database driver or an HTTP library; the store may be back later.
    """
    _set_options_of_mlflow()
    with warnings.catch_warnings(), without_collection():
        warnings.simplefilter("ignore")  # deprecation warnings from within MLflow
        import mlflow

    _silence_mlflow()  # after the import, which sets their levels
    database = database_file(uri)
    opened = open_database(database) if database is not None else contextlib.nullcontext()
    with opened, without_collection():  # the first client imports MLflow's store
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def _set_options_of_mlflow() -> None:
    """Set what MLflow reads from the environment at each request; calls from Python restore it in between."""
    # Runs report nothing to MLflow's authors, unless the user asks for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow prints the URL of each run, password included.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # A progress bar for two copied files would be printed between the lines of the run.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The sender retries on its own; MLflow's retries would block one request for many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault(TIMEOUT, str(REQUEST_SECONDS))


def _silence_mlflow() -> None:
    """Silence notes on migrations and retries, which would be printed between the lines of the run."""
    for logger in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(logger).setLevel(logging.ERROR)


def connect_again(uri: str) -> MlflowClient:
    """`connect`, but a database that this process is connected to is neither checked nor opened again.

    A worker tracks many runs in one database, and the check reads most of it.
    """
    database = database_file(uri)
    if database is None:
        return connect(uri)
    _set_options_of_mlflow()
    _silence_mlflow()
    if (key := _identity(uri, database)) not in _clients:
        client = connect(uri)
        key = _identity(uri, database)  # it may have been created just now
        _clients.clear()
        _clients[key] = client
    return _clients[key]


def _identity(uri: str, database: Path) -> tuple[object, ...]:
    try:
        found = database.stat()
    except OSError:
        return (uri,)
    return uri, found.st_dev, found.st_ino


def request_seconds() -> int:
    """The timeout of a request in seconds: MLFLOW_HTTP_REQUEST_TIMEOUT, or 20."""
    value = os.environ.get(TIMEOUT, "")
    return int(value) if value.isdigit() else REQUEST_SECONDS


def upload_seconds(size: int, attempt: int) -> int:
    """The timeout of an upload in seconds. It grows with the size: a proxy may forward all of it before it answers.

    Args:
        size: size of the upload in bytes.
        attempt: 0 for the first attempt; each further one has twice the time.
    """
    base = request_seconds()
    return max(base, min(MAX_UPLOAD_SECONDS, int((base + size / MIN_UPLOAD_SPEED) * 2**attempt)))


@contextmanager
def upload_timeout(paths: list[Path], attempt: int) -> Iterator[None]:
    """Set the timeout for the upload of these files and folders; MLflow reads it from the environment only."""
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
