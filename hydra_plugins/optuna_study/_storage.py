"""Opens the storage of a study, makes SQLite exact, and locks the study among its workers."""

import hashlib
import importlib.util
import logging
import os
import re
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from ._redaction import one_line, passwords_in, redact, redact_urls, register
from ._storage_wrappers import outages_of, retry_while_unreachable, retrying
from ._trial import StudyError

log = logging.getLogger("hydra_plugins.optuna_study")

# A process that holds the lock longer than this many seconds is stuck; the others continue without the lock.
LOCK_SECONDS = 30.0
_WAIT_SECONDS = 2
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code for a lock_timeout


@dataclass(frozen=True)
class StorageSpec:
    """Which storage a study is in. It contains no password, so it may be pickled and written.

    Args:
        kind: memory, sqlite, journal, grpc, rdb or object.
        shown: the URL without its password.
        variable: the environment variable that holds the URL, if it has a password.
        target: the storage as a config with `_target_`, for kind `object`.
    """

    kind: str
    shown: str
    variable: str | None = None
    target: Mapping[str, Any] | None = None

    @property
    def path(self) -> Path | None:
        """The file of a SQLite or journal storage."""
        if self.kind == "sqlite":
            return Path(unquote(self.shown.partition(":///")[2].partition("?")[0]))
        if self.kind == "journal":
            return Path(self.shown.removeprefix("journal://"))
        return None

    def url(self) -> str:
        """The URL with its password.

        Raises:
            StudyError: this process does not have the variable that holds it.
        """
        if self.variable is None:
            return self.shown
        url = os.environ.get(self.variable)
        if url is None:
            raise StudyError(
                f"the worker needs the environment variable {self.variable}, which holds the URL of {self.shown}; "
                "let the launcher pass the environment on, or keep the password out of the URL (PGPASSFILE)"
            )
        return url

    @property
    def secrets(self) -> tuple[str, ...]:
        return passwords_in(os.environ.get(self.variable, "")) if self.variable else ()


def storage_spec(value: Any) -> StorageSpec:  # noqa: PLR0911, PLR0912 - one for each kind
    """Read `hydra.sweeper.storage`. A relative file becomes absolute, so that workers elsewhere find the same one.

    A URL with a password goes into an environment variable of this process, which its workers inherit.

    Raises:
        StudyError: it is not a storage that workers can use together.
    """
    if value is None:
        return StorageSpec("memory", "memory")
    if isinstance(value, Mapping):
        if "_target_" not in value:
            raise StudyError(f"storage as a mapping needs _target_, got the keys {sorted(map(str, value))}")
        if any(passwords_in(text) for text in value.values() if isinstance(text, str)):
            raise StudyError("a storage with a password must be a URL, got a mapping; set hydra.sweeper.storage")
        return StorageSpec("object", str(value["_target_"]), target=dict(value))
    url = str(value)
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise StudyError(f"storage must be a URL such as sqlite:///study.db, got '{redact(url)}'")
    if scheme.partition("+")[0] == "sqlite":
        path, question, query = rest.removeprefix("/").partition("?")
        if path in ("", ":memory:"):
            raise StudyError("sqlite needs a file, as in sqlite:///study.db; for a study in memory use storage=null")
        # As SQLAlchemy reads it: %, ? and # in the name of a folder are quoted in the URL.
        absolute = str(Path(unquote(path)).expanduser().absolute())
        quoted = re.sub("[%?#]", lambda found: quote(found[0]), absolute)
        return StorageSpec("sqlite", f"{scheme}:///{quoted}{question}{query}")
    if scheme == "journal":
        if rest in ("", "/"):
            raise StudyError(f"a journal needs a file, as in journal:///path/study.log, got '{url}'")
        return StorageSpec("journal", f"journal://{Path(rest).expanduser().absolute()}")
    if scheme == "grpc":
        host, colon, port = rest.strip("/").rpartition(":")
        if not (host and colon and port.isdigit()):
            raise StudyError(f"a gRPC proxy must be written as grpc://host:port, got '{url}'")
        return StorageSpec("grpc", f"grpc://{host}:{port}")
    if scheme.startswith("redis"):
        others = "a database URL, journal:///file or grpc://host:port"
        raise StudyError(f"redis is not supported as a storage, got '{redact(url)}'; use {others}")
    shown = redact_urls(url)  # a database may have the name of a registered password
    register(passwords_in(url))
    if shown == url:
        return StorageSpec("rdb", url)
    variable = f"OPTUNA_STUDY_URL_{hashlib.sha256(shown.encode()).hexdigest()[:8].upper()}"
    os.environ[variable] = url
    return StorageSpec("rdb", shown, variable)


class Storage:
    """An open storage; `optuna` is Optuna's own, whose operations are retried while the server is unreachable.

    Args:
        spec: which storage to open.
        retry_minutes: minutes for which operations are retried.
        retry_opening: whether opening is retried, too. For workers, whose command has already reached the server.

    Raises:
        StudyError: it cannot be opened.
    """

    def __init__(self, spec: StorageSpec, retry_minutes: float = 10.0, retry_opening: bool = False) -> None:
        self.spec = spec
        self._thread_lock = threading.RLock()
        self._exclusive = threading.local()
        self._retry_seconds = retry_minutes * 60
        try:
            inner = retry_while_unreachable(self._open, self._retry_seconds if retry_opening else 0.0)
        except StudyError:
            raise
        except Exception as error:
            # "from None": the message or the arguments of the original may contain the URL.
            raise StudyError(f"storage {spec.shown} cannot be opened: {one_line(error, spec.secrets)}") from None
        self._rdb = inner if isinstance(inner, RDBStorage) else None
        self.optuna: BaseStorage = retrying(optuna.storages.get_storage(inner), self._retry_seconds)

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
                from optuna.storages import GrpcStorageProxy

                host, _, port = spec.shown.removeprefix("grpc://").rpartition(":")
                proxy = GrpcStorageProxy(host=host, port=int(port))
                proxy.wait_server_ready(timeout=30)
                return proxy
            if spec.kind == "object":
                from hydra.utils import instantiate

                built = instantiate(dict(spec.target or {}))
                if not isinstance(built, BaseStorage):
                    raise StudyError(f"storage must be an Optuna storage, got a {type(built).__name__}")
                return built
            return self._open_rdb()

    def _open_rdb(self) -> RDBStorage:
        # No pool_pre_ping: a broken connection is replaced when the operation is retried.
        arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if self.spec.kind == "sqlite" else {}
        for attempt in range(5):
            try:
                storage = RDBStorage(with_driver(self.spec.url()), engine_kwargs=arguments)
                break
            except Exception as error:
                # Processes that create the tables at the same time fail; the next attempt finds the tables.
                raced = any(word in str(error).lower() for word in ("already exists", "unique", "locked"))
                if attempt == 4 or not raced:
                    raise
                time.sleep(0.2 * (attempt + 1))
        if self.spec.kind == "sqlite":
            self._make_exact(storage)
        return storage

    def _make_exact(self, storage: RDBStorage) -> None:
        """Let SQLite decide which worker claims a waiting trial.

        SQLite has no SELECT .. FOR UPDATE, on which Optuna relies: two workers could both read WAITING and both write
        RUNNING. A transaction that begins IMMEDIATE excludes others from its first read on.
        """
        from sqlalchemy import event

        def on_connect(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        def on_begin(connection: Any) -> None:
            if getattr(self._exclusive, "on", False):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        # The existing connections do not have the settings.
        storage.engine.dispose()
        event.listen(storage.engine, "connect", on_connect)
        event.listen(storage.engine, "begin", on_begin)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let transactions of this thread exclude others from their first read on."""
        self._exclusive.on = True
        try:
            yield
        finally:
            self._exclusive.on = False

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold the lock of the study with this name, if the storage has locks; yields whether it is held.

        The lock saves work and trial numbers. Correctness never depends on it: a process that is stopped while it holds
        the lock must not stop the study.
        """
        with self._thread_lock:
            path = self.spec.path
            if self.spec.kind == "memory":
                yield True
            elif path is not None:
                with _file_lock(path.with_name(path.name + ".claims")) as held:
                    yield held
            elif self._rdb is not None and self._rdb.engine.name in ("postgresql", "mysql"):
                with self._database_lock(self._rdb.engine, name) as held:
                    yield held
            else:
                yield False

    @contextmanager
    def _database_lock(self, engine: Any, name: str) -> Iterator[bool]:
        import sqlalchemy

        connect = partial(retry_while_unreachable, engine.connect, self._retry_seconds, outages_of(self.optuna))
        connection, held = connect(), False
        try:
            try:
                held = _take_lock(connection, name)
            except sqlalchemy.exc.DBAPIError as error:
                if error.connection_invalidated:
                    # The connection is from before an outage; from now on the pool makes new ones.
                    connection.close()
                    connection = connect()
                    with suppress(sqlalchemy.exc.DBAPIError):
                        held = _take_lock(connection, name)
            yield held
        finally:
            try:
                if held and engine.name == "mysql":
                    connection.execute(sqlalchemy.text("DO RELEASE_ALL_LOCKS()"))
                connection.rollback()
                connection.close()
            except sqlalchemy.exc.DBAPIError:
                connection.invalidate()

    def close(self) -> None:
        self.optuna.remove_session()
        if self._rdb is not None:
            self._rdb.engine.dispose()


def _take_lock(connection: Any, name: str) -> bool:
    """Wait for the lock of the study in the database.

    On PostgreSQL, the transaction holds it, and the waits are short, because the driver blocks signals while it waits.
    On MySQL, the connection holds it.
    """
    from sqlalchemy import exc, text

    if connection.engine.name != "postgresql":
        query = text("SELECT GET_LOCK(:name, :seconds)")
        key_name = f"optuna_study_{zlib.crc32(name.encode())}"
        answer = connection.execute(query, {"name": key_name, "seconds": LOCK_SECONDS}).scalar()
        return bool(answer == 1)
    # One statement, evaluated from left to right: the limit is set before the wait begins.
    limit = f"set_config('lock_timeout', '{_WAIT_SECONDS}s', true)"
    both = text(f"SELECT {limit}, pg_advisory_xact_lock({zlib.crc32(f'optuna_study {name}'.encode())})")
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
    """The URL with the installed PostgreSQL driver, if it names none.

    SQLAlchemy 2.0 and 2.1 choose different drivers for `postgresql://`.
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

    # Without filelock's fallback for file systems without locks, which outlives a killed process.
    lock = FileLock(path, timeout=LOCK_SECONDS, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        pass
    except (NotImplementedError, OSError) as error:
        _warn_without_locks(path.parent, getattr(error, "strerror", None) or str(error))
    try:
        yield lock.is_locked
    finally:
        lock.release()


@cache  # once for each folder
def _warn_without_locks(folder: Path, reason: str) -> None:
    consequence = "the study continues without them, and workers may do some work twice"
    repair = "put hydra.sweeper.storage on another file system"
    log.warning("file locks do not work in %s (%s); %s; %s", folder, reason, consequence, repair)
