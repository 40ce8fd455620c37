"""What is wrong with a tracking store for good is told before a run begins.

`python -m eyegender.tracking.check ADDRESS` looks at one before MLflow's pages are served from it.
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
from eyegender.tracking.local_store import opening
from eyegender.tracking.errors import LOGIN, StoreFaultError, first_line, repair_of
from eyegender.tracking.location import database_uri
from eyegender.tracking.client import request_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.tracking.location import Location

log = logging.getLogger("eyegender")

SERVERS = ("postgresql", "mysql", "mssql")  # databases that MLflow can keep runs in
REPAIR = "set tracking.uri to http://HOST:PORT or sqlite:///FILE, or tracking.root to a folder"


def check_store(location: Location, seconds: int = 5) -> None:
    """Look at the embedded store, or log in to the server, before the work begins. One that is away may come back.

    Raises:
        StoreFaultError: it will not take anything before somebody repairs it.
    """
    scheme = location.uri.partition("://")[0].partition("+")[0]
    if location.database is not None:
        _check_file(location.database)
        if location.database.exists():
            with contextlib.suppress(sqlite3.OperationalError), opening(location.database):
                pass
    elif scheme in {"http", "https"}:
        _check_server(location.uri, seconds)
    if scheme == "sqlite" or scheme in SERVERS:
        _check_database(location, scheme, seconds)
    elif scheme not in {"http", "https"}:
        _check_other(location.uri)


def _fault(uri: str, got: str) -> StoreFaultError:
    return StoreFaultError(f"tracking: {redact_urls(uri)} must be the address of a store, got {got}", REPAIR)


def _check_file(database: Path) -> None:
    if database.is_dir():
        raise _fault(database_uri(database), "a folder")
    there = next(place for place in (database, *database.absolute().parents) if place.exists())
    folder = there.parent if there == database else there
    if not folder.is_dir():
        raise _fault(database_uri(database), f"a folder that cannot be made ({there} is a file)")
    for place in {there, folder}:
        if not os.access(place, os.W_OK):
            raise StoreFaultError(f"tracking: {place} must be writable, got one that is not", REPAIR)


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
    except Exception as error:  # of whatever kind: the sender says that the store is away, and tries again
        log.debug("tracking: %s", first_line(error))
        return
    if answer.status_code in {401, 403}:
        raise StoreFaultError(
            f"tracking: {redact_urls(uri)} must know who is asking, got status {answer.status_code}", LOGIN
        )


def _check_database(location: Location, scheme: str, seconds: int) -> None:
    """A database of which there is no driver here, or no login; of a file only the former."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, OperationalError

    if scheme == "sqlite" and location.database is None:
        raise _fault(location.uri, "a database in memory, which would be gone with the run")
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
                f"tracking: {redact_urls(location.uri)} must let this user in, got {first_line(error)}", repair
            ) from error
    finally:
        engine.dispose()


def _check_other(uri: str) -> None:
    """What MLflow refuses without asking anybody: schemes that it does not know, and its folders of files."""
    import mlflow

    try:
        mlflow.MlflowClient(uri)
    except Exception as error:  # of whatever kind a store's plugin raises
        raise _fault(uri, f"one that MLflow refuses ({first_line(error)})") from error


def main() -> None:
    from eyegender.tracking.location import find_location

    try:
        check_store(find_location(sys.argv[1]))
    except UserError as error:
        sys.exit(f"eyegender: {error}")


if __name__ == "__main__":
    main()
