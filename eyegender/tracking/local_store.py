"""The local store: an SQLite database with a folder of artifacts beside it. Both can be moved and copied together."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sqlite3
import uuid
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from eyegender.core.file_locks import optional_file_lock
from eyegender.tracking.errors import StoreFaultError
from eyegender.tracking.location import artifacts_beside, database_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("eyegender")

LOCK_SECONDS = 20.0  # how long to wait while another process writes to the database
CHECKED_BYTES = 64 * 2**20  # a larger database is not read completely before each run
# Columns that contain absolute addresses of artifacts.
ADDRESSES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
    ("trace_tags", "value"),
)


@contextmanager
def open_database(database: Path) -> Iterator[None]:
    """Create or check a database; MLflow opens it inside the context, while no other process creates it.

    Raises:
        StoreFaultError: the database is damaged, has no tables, or has the schema of another version of MLflow.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    without_locks = "start one run alone first, or set tracking.root to a folder on another file system"
    with optional_file_lock(database.with_suffix(".lock"), -1, without_locks) as locked:
        if database.exists():
            check_database(database)
            adapt_addresses(database)
        else:
            _create(database, locked=locked)
        yield


def _create(database: Path, *, locked: bool) -> None:
    """Create a complete database or none, because MLflow cannot complete or recognize an incomplete one.

    By itself, MLflow would also put the default experiment into the working folder, and fail if its name contains a
    quote.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if locked:
        for leftover in database.parent.glob(f"{database.name}.new-*"):  # from a process that was killed
            leftover.unlink(missing_ok=True)
    temporary = database.with_name(f"{database.name}.new-{uuid.uuid4().hex}")
    address = database_uri(temporary.absolute())
    try:
        SqlAlchemyStore(address, artifacts_beside(database))  # type: ignore[no-untyped-call]
        _publish(temporary, database)
    finally:
        with contextlib.suppress(AttributeError):  # MLflow never closes the file
            if (engine := SqlAlchemyStore._engine_map.pop(address, None)) is not None:
                engine.dispose()
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, database: Path) -> None:
    """Give the database its name, but never replace one that another process has created meanwhile without a lock."""
    try:
        database.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not database.exists():
            temporary.rename(database)


def check_database(database: Path) -> None:
    """Raise StoreFaultError if MLflow could not use an existing database, or would silently create it again."""
    try:
        with closing(_connect(database)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if database.stat().st_size < CHECKED_BYTES:
                [(fault,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
                if fault != "ok":
                    raise sqlite3.DatabaseError(fault)
            complete = {"experiments", "runs", "alembic_version"} <= tables
            revisions = [] if not complete else connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError:
        raise  # locked, or not readable at the moment
    except sqlite3.DatabaseError as error:
        raise StoreFaultError(
            f"tracking: {database} must be an intact database, got a damaged one ({str(error).splitlines()[0]})",
            "restore a backup, or move the file away to start a new store",
        ) from error
    if not revisions:
        what = "one without them" if tables else "an empty database"
        raise StoreFaultError(
            f"tracking: {database} must hold MLflow's tables, got {what}",
            "restore a backup, or remove the file to start a new store",
        )
    _check_schema(database, str(revisions[0][0]))


def _check_schema(database: Path, revision: str) -> None:
    revisions, newest = _schema_revisions()
    if revision in newest or len(newest) != 1:  # otherwise MLflow itself refuses the database when it opens it
        return
    what = f"tracking: {database} must have MLflow's schema {newest[0]}, got {revision}"
    if revision not in revisions:
        raise StoreFaultError(
            f"{what} of a version newer than MLflow {version('mlflow')}",
            "install the version of MLflow that wrote it, or set tracking.root=FOLDER",
        )
    raise StoreFaultError(
        f"{what} of an older version of MLflow",
        f"copy the file as a backup, then run: mlflow db upgrade '{database_uri(database)}'",
    )


@functools.cache
def _schema_revisions() -> tuple[set[str], list[str]]:
    """All revisions of the schema that the installed MLflow knows, and the newest, which no other one follows.

    They are read from its migrations, which would import MLflow if Alembic loaded them.
    """
    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    migrations = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    revisions: set[str] = set()
    earlier: set[str] = set()
    for path in migrations.glob("*.py"):
        found = dict(re.findall(r"^(revision|down_revision) = [\"'](\w+)[\"']", path.read_text("utf-8"), re.MULTILINE))
        revisions |= {found["revision"]} if "revision" in found else set()
        earlier |= {found["down_revision"]} if "down_revision" in found else set()
    return revisions, sorted(revisions - earlier)


def adapt_addresses(database: Path) -> None:
    """Correct the addresses of artifacts after the store was moved or copied, because MLflow stores absolute ones.

    An address does not change if its files exist in the old folder only.
    """
    here = artifacts_beside(database)
    with closing(_connect(database)) as connection:
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        old = [address for (address,) in rows if _is_old(connection, address, database)]
        if not old:
            return
        connection.execute("BEGIN IMMEDIATE")
        for address in old:
            _replace_prefix(connection, address, here)
        connection.execute("COMMIT")
    _clear_cached_addresses()
    log.info("tracking: the store was moved to %s; its addresses are corrected", database.absolute().parent)


def _is_old(connection: sqlite3.Connection, address: str | None, database: Path) -> bool:
    """Whether an experiment's artifacts were beside the database when it was created, and both were moved since."""
    path, here = _path(address), artifacts_beside(database)
    if path is None or path.name != "artifacts" or address == here or _same_folder(path, _path(here)):
        return False
    if not os.path.isdir(path.parent) or os.path.exists(path.parent / database.name):  # noqa: PTH110, PTH112 - see _exists
        return True  # moved from there, or copied from a store that still exists
    # The user may have chosen another folder for the artifacts. Then none of them is beside the database.
    runs = connection.execute("SELECT artifact_uri FROM runs WHERE artifact_uri LIKE ? || '/%'", (address,))
    return any(_exists(here + uri.removeprefix(str(address))) for (uri,) in runs)


def _replace_prefix(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Correct all addresses below the old store; MLflow's default experiment may be beside our folder of artifacts."""
    pairs = [(old, new)]
    before, after = _path(old), _path(new)
    if before is not None and after is not None:
        pairs += [(before.parent.as_uri(), after.parent.as_uri()), (str(before.parent), str(after.parent))]
    connection.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (new, old))
    for prefix, replacement in pairs:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? || substr(artifact_location, ?) "
            "WHERE substr(artifact_location, 1, ?) = ?",
            (replacement, len(prefix) + 1, len(prefix) + 1, f"{prefix}/"),
        )
        for table, column in ADDRESSES:
            query = f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, ?) = ?"  # noqa: S608 - our names
            for (address,) in connection.execute(query, (len(prefix) + 1, f"{prefix}/")).fetchall():
                moved = replacement + address[len(prefix) :]
                if _exists(moved) or not _exists(address):
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (moved, address))  # noqa: S608


def _clear_cached_addresses() -> None:
    """Clear MLflow's cache of the addresses of artifacts, for which it has no public function."""
    with contextlib.suppress(ImportError, AttributeError):
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()


def _connect(database: Path) -> sqlite3.Connection:
    # Opened for writing, because an unfinished transaction of a killed process must be rolled back first.
    address = f"file:{quote(str(database.absolute()))}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)


def _path(address: str | None) -> Path | None:
    """The path of a local address, which MLflow writes as a URI or as a plain path; None for other addresses."""
    if address is None:
        return None
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") else None


def _exists(address: str) -> bool:
    path = _path(address)
    return path is not None and os.path.exists(path)  # noqa: PTH110 - Path.exists raises if access is denied


def _same_folder(first: Path, second: Path | None) -> bool:
    try:
        return second is not None and first.samefile(second)
    except OSError:
        return False
