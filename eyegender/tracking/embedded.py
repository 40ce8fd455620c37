"""The embedded store: an sqlite database with its artifacts in the folder beside it. It may be moved and copied."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import uuid
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from eyegender.core.file_locks import optional_file_lock
from eyegender.tracking.faults import StoreFaultError
from eyegender.tracking.location import artifacts_beside, database_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("eyegender")

SECONDS = 20.0  # for which a database that another process writes to is waited for
CHECKED_BYTES = 64 * 2**20  # a larger database is not read through before each run
ADDRESSES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
    ("trace_tags", "value"),
)


@contextmanager
def opening(database: Path) -> Iterator[None]:
    """Around MLflow's first look at a database: one process makes its tables, and what is there already is looked at.

    Raises:
        StoreFaultError: it is damaged, empty, or of another MLflow; waiting mends none of these.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    wait = "start one run alone first, or set tracking.root to a folder on another file system"
    with optional_file_lock(database.with_suffix(".lock"), -1, wait) as held:
        if database.exists():
            check(database)
            adapt_addresses(database)
        else:
            _create(database, alone=held)
        yield


def _create(database: Path, *, alone: bool) -> None:
    """Make a whole database or none: MLflow itself can neither go on with half of one nor tell it from a whole one.

    By itself MLflow would also put its default experiment into the working folder, and fail on a quote in its name.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if alone:
        for left in database.parent.glob(f"{database.name}.new-*"):  # of a process that was killed
            left.unlink(missing_ok=True)
    aside = database.with_name(f"{database.name}.new-{uuid.uuid4().hex}")
    address = database_uri(aside.absolute())
    try:
        SqlAlchemyStore(address, artifacts_beside(database))  # type: ignore[no-untyped-call]
        _name(aside, database)
    finally:
        with contextlib.suppress(AttributeError):  # MLflow keeps the file open for ever
            if (engine := SqlAlchemyStore._engine_map.pop(address, None)) is not None:
                engine.dispose()
        aside.unlink(missing_ok=True)


def _name(aside: Path, database: Path) -> None:
    """Never over a database that another process, where there are no locks, has made meanwhile."""
    try:
        database.hardlink_to(aside)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not database.exists():
            aside.rename(database)


def check(database: Path) -> None:
    """Raises StoreFaultError where MLflow could not work with an existing database, or would silently make it anew."""
    try:
        with closing(_connect(database)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if database.stat().st_size < CHECKED_BYTES:
                [(fault,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
                if fault != "ok":
                    raise sqlite3.DatabaseError(fault)
            whole = {"experiments", "runs", "alembic_version"} <= tables
            found = [] if not whole else connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError:
        raise  # locked, or not readable just now
    except sqlite3.DatabaseError as error:
        raise StoreFaultError(
            f"tracking: {database} must be a whole database, got a damaged one ({str(error).splitlines()[0]})",
            "put a backup in its place, or move it away to begin a new one",
        ) from error
    if not found:
        what = "one without them" if tables else "an empty database"
        raise StoreFaultError(
            f"tracking: {database} must hold MLflow's tables, got {what}",
            "put a backup in its place, or remove it to begin a new one",
        )
    _check_schema(database, str(found[0][0]))


def _check_schema(database: Path, found: str) -> None:
    logging.getLogger("alembic").setLevel(logging.ERROR)  # it tells each of its plugins, as soon as it is imported
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    # Found without importing MLflow, which takes seconds.
    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    scripts = ScriptDirectory(str(Path(package.origin).parent / "store" / "db_migrations"))
    needed = scripts.get_current_head()
    if found == needed:
        return
    what = f"tracking: {database} must have MLflow's schema {needed}, got {found}"
    try:
        scripts.get_revision(found)
    except CommandError:
        raise StoreFaultError(
            f"{what} of another MLflow, newer than {version('mlflow')}",
            "install the MLflow that wrote it, or set tracking.root=FOLDER",
        ) from None
    raise StoreFaultError(
        f"{what} of an older MLflow", f"copy it as a backup, then run: mlflow db upgrade '{database_uri(database)}'"
    )


def adapt_addresses(database: Path) -> None:
    """Make the artifacts' addresses, which MLflow keeps absolute, follow a store that was moved or copied.

    An address stays as it is where its files lie at the old place only.
    """
    here = artifacts_beside(database)
    with closing(_connect(database)) as connection:
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        old = [address for (address,) in rows if _is_old(connection, address, database)]
        if not old:
            return
        connection.execute("BEGIN IMMEDIATE")
        for address in old:
            _follow(connection, address, here)
        connection.execute("COMMIT")
    _forget_addresses()
    log.info("tracking: the store has moved to %s; its addresses follow", database.absolute().parent)


def _is_old(connection: sqlite3.Connection, address: str | None, database: Path) -> bool:
    """Whether an experiment's artifacts lay beside the database when it was made, and the two have moved since."""
    path, here = _path(address), artifacts_beside(database)
    if path is None or path.name != "artifacts" or address == here or _same_folder(path, _path(here)):
        return False
    if not os.path.isdir(path.parent) or os.path.exists(path.parent / database.name):  # noqa: PTH110, PTH112 - see _exists
        return True  # moved from there, or copied from a store that is still there
    # Somebody may have chosen another place for the artifacts; then nothing of them is here.
    runs = connection.execute("SELECT artifact_uri FROM runs WHERE artifact_uri LIKE ? || '/%'", (address,))
    return any(_exists(here + uri.removeprefix(str(address))) for (uri,) in runs)


def _follow(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Everything that lay below the old store's folder; MLflow's default experiment may lie beside our artifacts."""
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


def _forget_addresses() -> None:
    """MLflow remembers in each process where the artifacts of runs and models lie, and has no way to be told anew."""
    with contextlib.suppress(ImportError, AttributeError):
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()


def _connect(database: Path) -> sqlite3.Connection:
    # To read and write, for what a process left that was killed while it wrote must be rolled back first.
    address = f"file:{quote(str(database.absolute()))}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=SECONDS, isolation_level=None)


def _path(address: str | None) -> Path | None:
    """The path of a local address, which MLflow writes as a URI or plainly; None for others."""
    if address is None:
        return None
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") else None


def _exists(address: str) -> bool:
    path = _path(address)
    return path is not None and os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it may not look


def _same_folder(first: Path, second: Path | None) -> bool:
    try:
        return second is not None and first.samefile(second)
    except OSError:
        return False
