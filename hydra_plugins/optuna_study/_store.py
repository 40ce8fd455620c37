"""An open storage, with what Optuna's own lacks: exactness on sqlite, patience, and a lock among workers."""

import importlib.util
import logging
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from ._errors import StudyError
from ._patient import again_while_away, outages_of, patient
from ._secrets import one_line
from ._spec import StorageSpec

log = logging.getLogger("hydra_plugins.optuna_study")

# A holder that takes longer than this is stuck (stopped, swapped out); the rest goes on without the lock.
LOCK_SECONDS = 30.0
_WAIT_SECONDS = 2
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code for a lock_timeout


class Store:
    """Args:
    spec: where the studies are.
    patience: minutes for which operations are tried again while the server is away.
    wait: whether opening is, too: for workers, whose command has reached the server before.
    """

    def __init__(self, spec: StorageSpec, patience: float = 10.0, wait: bool = False) -> None:
        self.spec = spec
        self._thread_lock = threading.RLock()
        self._exclusive = threading.local()
        seconds = patience * 60
        try:
            inner = again_while_away(self._open, seconds if wait else 0.0)
        except StudyError:
            raise
        except Exception as error:
            # "from None": the original may show the URL, in its message or its arguments.
            raise StudyError(f"storage {spec.shown} cannot be opened: {one_line(error, spec.secrets)}") from None
        self._rdb = inner if isinstance(inner, RDBStorage) else None
        self.storage: BaseStorage = patient(optuna.storages.get_storage(inner), seconds)
        self._seconds = seconds

    def _open(self) -> BaseStorage:
        spec = self.spec
        if spec.path is not None:
            spec.path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if spec.kind == "memory":
                return InMemoryStorage()
            if spec.kind == "journal":
                from optuna.storages import JournalStorage
                from optuna.storages.journal import JournalFileBackend

                return JournalStorage(JournalFileBackend(str(spec.path)))
            if spec.kind == "grpc":
                return self._open_grpc()
            if spec.kind == "object":
                from hydra.utils import instantiate

                built = instantiate(dict(spec.target or {}))
                if not isinstance(built, BaseStorage):
                    raise StudyError(f"storage must be an Optuna storage, got a {type(built).__name__}")
                return built
            return self._open_rdb()

    def _open_grpc(self) -> BaseStorage:
        from optuna.storages import GrpcStorageProxy

        host, _, port = self.spec.shown.removeprefix("grpc://").rpartition(":")
        proxy = GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=30)
        return proxy

    def _open_rdb(self) -> RDBStorage:
        # No pool_pre_ping: a connection that broke is replaced when the operation is tried again.
        arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if self.spec.kind == "sqlite" else {}

        def connect() -> RDBStorage:
            return RDBStorage(with_driver(self.spec.url()), engine_kwargs=arguments)

        for attempt in range(5):
            try:
                storage = connect()
                break
            except Exception as error:
                # Several processes that create the tables at once trip over each other; the next look finds them.
                raced = any(word in str(error).lower() for word in ("already exists", "unique", "locked"))
                if attempt == 4 or not raced:
                    raise
                time.sleep(0.2 * (attempt + 1))
        if self.spec.kind == "sqlite":
            self._make_exact(storage)
        return storage

    def _make_exact(self, storage: RDBStorage) -> None:
        """Let sqlite decide who claims a waiting trial.

        sqlite knows no SELECT .. FOR UPDATE, on which Optuna relies: two workers could both read WAITING and both
        write RUNNING. A transaction that begins IMMEDIATE is alone from its first read on.
        """
        from sqlalchemy import event

        def on_connect(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.close()

        def on_begin(connection: Any) -> None:
            if getattr(self._exclusive, "on", False):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        # The connections made so far lack the settings.
        storage.engine.dispose()
        event.listen(storage.engine, "connect", on_connect)
        event.listen(storage.engine, "begin", on_begin)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Transactions of this thread are alone from their first read on."""
        self._exclusive.on = True
        try:
            yield
        finally:
            self._exclusive.on = False

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold the study's lock, if the storage has one; gives whether it is held.

        It saves work and trial numbers. Correctness never rests on it: a process that is stopped while it holds the
        lock must not stop the study.
        """
        with self._thread_lock:
            path = self.spec.path
            if self.spec.kind == "memory":
                yield True
            elif path is not None:
                with _file_lock(path.with_name(path.name + ".claims")) as held:
                    yield held
            elif self._rdb is not None:
                with self._database_lock(name) as held:
                    yield held
            else:
                yield False

    @contextmanager
    def _database_lock(self, name: str) -> Iterator[bool]:
        import sqlalchemy

        rdb = self._rdb
        if rdb is None or rdb.engine.name not in ("postgresql", "mysql"):
            yield False
            return
        connect = partial(again_while_away, rdb.engine.connect, self._seconds, outages_of(self.storage))
        connection, held = connect(), False
        try:
            try:
                held = _take_lock(connection, name)
            except sqlalchemy.exc.DBAPIError as error:
                if error.connection_invalidated:
                    # A connection from before the server went away; the pool makes new ones from here on.
                    connection.close()
                    connection = connect()
                    with suppress(sqlalchemy.exc.DBAPIError):
                        held = _take_lock(connection, name)
            yield held
        finally:
            try:
                if held and rdb.engine.name == "mysql":
                    connection.execute(sqlalchemy.text("DO RELEASE_ALL_LOCKS()"))
                connection.rollback()
                connection.close()
            except sqlalchemy.exc.DBAPIError:
                connection.invalidate()

    def close(self) -> None:
        self.storage.remove_session()
        if self._rdb is not None:
            self._rdb.engine.dispose()


def _take_lock(connection: Any, name: str) -> bool:
    """Wait for the study's lock in the database, for the connection's transaction or, on MySQL, for the connection.

    On PostgreSQL in short waits, because its driver hands no signal to Python while it waits.
    """
    from sqlalchemy import exc, text

    key = zlib.crc32(f"optuna_study {name}".encode())
    if connection.engine.name != "postgresql":
        query = text("SELECT GET_LOCK(:name, :seconds)")
        key_name = f"optuna_study_{zlib.crc32(name.encode())}"
        answer = connection.execute(query, {"name": key_name, "seconds": LOCK_SECONDS}).scalar()
        return bool(answer == 1)
    # In one statement, from left to right: the limit is set before the lock is waited for.
    limit = f"set_config('lock_timeout', '{_WAIT_SECONDS}s', true)"
    both = text(f"SELECT {limit}, pg_advisory_xact_lock({key})")
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute(both)
        except exc.DBAPIError as error:
            timed_out = _LOCK_NOT_AVAILABLE in (getattr(error.orig, code, None) for code in ("pgcode", "sqlstate"))
            if not timed_out or time.monotonic() > give_up:
                raise
            connection.rollback()
        else:
            return True


def with_driver(url: str) -> str:
    """The URL with the PostgreSQL driver that is installed, where it names none.

    SQLAlchemy 2.0 and 2.1 disagree on which one a bare `postgresql://` means.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres"):
        return url
    for driver in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(driver) is not None:
            return f"postgresql+{driver}{separator}{rest}"
    raise StudyError("PostgreSQL needs a driver; install psycopg2-binary or psycopg")


@contextmanager
def _file_lock(path: Path) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    # Its substitute for file systems without locks outlives a killed process.
    lock = FileLock(path, timeout=LOCK_SECONDS, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (NotImplementedError, OSError) as error:
        _tell_no_locks(path.parent, getattr(error, "strerror", None) or str(error))
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@cache  # once for each folder
def _tell_no_locks(folder: Path, reason: str) -> None:
    log.warning(
        "file locks do not work in %s (%s); the study goes on without, which may cost workers some work twice; "
        "put hydra.sweeper.storage on another file system",
        folder,
        reason,
    )
