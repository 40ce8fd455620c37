"""Checks a tracking store before a run begins: faults that no waiting can repair are reported at once.

`python -m eyegender.tracking.check ADDRESS` checks a store before MLflow's pages are served from it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_urls
from eyegender.tracking.client import request_seconds
from eyegender.tracking.errors import LOGIN, StoreFaultError, first_line, repair_of
from eyegender.tracking.local_store import open_database
from eyegender.tracking.location import database_uri

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.tracking.location import Location

log = logging.getLogger("eyegender")

SERVERS = ("postgresql", "mysql", "mssql")  # database servers that MLflow supports
_in_order: set[Location] = set()
REPAIR = "set tracking.uri to http://HOST:PORT or sqlite:///FILE, or tracking.root to a folder"


def check_store(location: Location, seconds: int = 5) -> None:
    """Check a local store, or log in to a server. A server that is unreachable is no fault: it may be back later.

    Args:
        location: the store.
        seconds: timeout of the login.

    Raises:
        StoreFaultError: the store must be repaired before it accepts anything.
    """
    scheme = location.uri.partition("://")[0].partition("+")[0]
    if location.database is not None:
        _check_file(location.database)
        if location.database.exists():
            with contextlib.suppress(sqlite3.OperationalError), open_database(location.database):
                pass
    elif scheme in {"http", "https"}:
        _check_server(location.uri, seconds)
    if scheme == "sqlite" or scheme in SERVERS:
        _check_database(location, scheme, seconds)
    elif scheme not in {"http", "https"}:
        _check_other(location.uri)


def check_store_once(location: Location) -> None:
    """`check_store`, unless this process has found the store in order before: a worker trains many trials."""
    if location not in _in_order:
        check_store(location)
        _in_order.add(location)


def _fault(uri: str, got: str) -> StoreFaultError:
    return StoreFaultError(f"tracking: {redact_urls(uri)} must be the address of a store, got {got}", REPAIR)


def _check_file(database: Path) -> None:
    if database.is_dir():
        raise _fault(database_uri(database), "a folder")
    existing = next(path for path in (database, *database.absolute().parents) if path.exists())
    folder = existing.parent if existing == database else existing
    if not folder.is_dir():
        raise _fault(database_uri(database), f"a folder that cannot be created ({existing} is a file)")
    for path in {existing, folder}:
        if not os.access(path, os.W_OK):
            raise StoreFaultError(f"tracking: {path} must be writable, got one that is not", REPAIR)


def _check_server(uri: str, seconds: int) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        host = urlsplit(uri).hostname
    except ValueError as error:
        raise _fault(uri, f"none ({first_line(error)})") from error
    if not host:
        raise _fault(uri, "no host")
    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            "/api/2.0/mlflow/experiments/search", "GET",
            params={"max_results": 1}, timeout=min(seconds, request_seconds()), max_retries=0,
        )  # fmt: skip
    except Exception as error:  # of any type: the sender reports that the store is unreachable, and tries again
        log.debug("tracking: %s", first_line(error))
        return
    if answer.status_code in {401, 403}:
        raise StoreFaultError(
            f"tracking: {redact_urls(uri)} must accept the login, got status {answer.status_code}", LOGIN
        )


def _check_database(location: Location, scheme: str, seconds: int) -> None:
    """Check that there is a driver for the database and, for a database server, that the login works."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, OperationalError

    if scheme == "sqlite" and location.database is None:
        raise _fault(location.uri, "a database in memory, which would be lost at the end of the run")
    arguments = {"connect_timeout": seconds} if scheme in {"postgresql", "mysql"} else {}
    try:
        engine = create_engine(location.uri, connect_args=arguments)
    except (ArgumentError, ImportError, ValueError) as error:
        raise _fault(location.uri, f"one that cannot be opened here ({first_line(error)})") from error
    if scheme == "sqlite":
        return
    try:
        engine.connect().close()
    except OperationalError as error:
        if (repair := repair_of(error)) is not None:
            raise StoreFaultError(
                f"tracking: {redact_urls(location.uri)} must accept the login, got {first_line(error)}", repair
            ) from error
    finally:
        engine.dispose()


def _check_other(uri: str) -> None:
    """Check what MLflow refuses by itself: unknown schemes, and its former stores of plain files."""
    import mlflow

    try:
        mlflow.MlflowClient(uri)
    except Exception as error:  # of any type that the plugin of a store raises
        raise _fault(uri, f"one that MLflow refuses ({first_line(error)})") from error


def main() -> None:
    from eyegender.tracking.location import find_location

    try:
        check_store(find_location(sys.argv[1]))
    except UserError as error:
        sys.exit(f"eyegender: {error}")


if __name__ == "__main__":
    main()
