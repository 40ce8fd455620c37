"""A storage that waits while its database is away."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from ._outages import Outages

# Seconds between two attempts while the server is away; once it is back, every process has tried again after so long.
LONGEST_PAUSE = 5.0
# The first of these words in a message means that waiting does not help.
_HOPELESS = ("no such table", "authentication failed", "does not exist", "no such column", "readonly", "read-only")


def is_passing(error: BaseException) -> bool:
    """Whether an error of a storage says that its server cannot be reached now, but may be again soon."""
    return any(_is_passing(link) for link in _chain(error))


def is_storage_error(error: BaseException) -> bool:
    """Whether an error comes from the storage, not from whoever used it: it says nothing about the trial."""
    return isinstance(error, StorageInternalError) or type(error).__module__.startswith(
        ("sqlalchemy", "sqlite3", "psycopg", "pymysql", "grpc")
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_passing(error: BaseException) -> bool:
    module, name = type(error).__module__, type(error).__name__
    if module.startswith("sqlalchemy"):
        message = str(error).lower()
        if name in ("OperationalError", "InterfaceError", "TimeoutError", "DisconnectionError"):
            return not any(words in message for words in _HOPELESS)
        return bool(getattr(error, "connection_invalidated", False))
    if module.startswith("grpc"):
        code = getattr(error, "code", None)
        return callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "UNKNOWN")
    return False


def again_while_away(operation: Callable[[], Any], seconds: float, outages: Outages | None = None) -> Any:
    """Call the operation until it works or has failed for so many seconds because the server was away.

    Args:
    outages: where such a time is counted.
    """
    pause, give_up = 0.05, time.monotonic() + seconds
    with (outages or Outages()).watching() as attempts:
        while True:
            try:
                return operation()
            except Exception as error:
                if not is_passing(error) or time.monotonic() + pause > give_up:
                    raise
            attempts.failed += 1
            # Spread out, so that all workers do not come back in the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)


_OPERATIONS = [name for name in vars(BaseStorage) if not name.startswith("_") and callable(getattr(BaseStorage, name))]


def _forwarded(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return call


def delegating(name: str, base: type) -> Any:
    """A storage class that hands every operation `base` does not define to its `inner` storage."""
    forwarded = {operation: _forwarded(operation) for operation in _OPERATIONS if not hasattr(base, operation)}
    return type(name, (base, BaseStorage), forwarded)


class _Waiting:
    def __init__(self, inner: BaseStorage, seconds: float) -> None:
        self.inner = inner
        self.seconds = seconds
        self.outages = Outages()


def _patiently(name: str) -> Callable[..., Any]:
    def call(self: _Waiting, *args: Any, **kwargs: Any) -> Any:
        return again_while_away(lambda: getattr(self.inner, name)(*args, **kwargs), self.seconds, self.outages)

    return call


_PATIENT: Any = type("PatientStorage", (_Waiting, BaseStorage), {name: _patiently(name) for name in _OPERATIONS})


def patient(inner: BaseStorage, seconds: float) -> BaseStorage:
    """The same storage, each operation of which is tried again for so many seconds while the server is away.

    An operation may have been carried out although its answer was lost. That is safe here: what was created twice is
    a waiting trial, which the budget passes over, and a state that was already set is looked up by whoever set it.
    """
    wrapped: BaseStorage = _PATIENT(inner, seconds)
    return wrapped


def outages_of(storage: BaseStorage) -> Outages:
    """How long a patient storage was away so far; nobody counts it for another."""
    counted: Outages = getattr(storage, "outages", None) or Outages()
    return counted
