"""Errors of a tracking store: those that pass by themselves, and those that the user must repair."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIN = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to a valid login"
LIMITS = (
    "raise the limits of the server or of the proxy before it (for nginx client_max_body_size and "
    "proxy_read_timeout), or MLFLOW_HTTP_REQUEST_TIMEOUT"
)

_NO_LOGIN = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED"}
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}
_NO_DATABASE_LOGIN = re.compile(
    r"authentication failed|no pg_hba\.conf entry|(?:role|database) \".*\" does not exist|Access denied for user"
)
_STATUS = re.compile(r"failed with error code (\d{3}) |^(\d{3}) (?:Client|Server) Error")


class StoreFaultError(UserError):
    """A fault of the store that the user must repair.

    Args:
        what: what is wrong.
        repair: what to do about it.
    """

    def __init__(self, what: str, repair: str) -> None:
        super().__init__(f"{what}; {repair}")
        self.repair = repair


def repair_of(error: BaseException) -> str | None:
    """What the user must do before the store accepts anything; None if it may recover by itself."""
    if isinstance(error, StoreFaultError):
        return error.repair
    if http_status(error) in {401, 403} or getattr(error, "error_code", None) in _NO_LOGIN:
        return LOGIN
    if any(_NO_DATABASE_LOGIN.search(str(cause)) for cause in _causes(error)):
        return "correct the user, the password or the database in the address"
    if any("attempt to write a readonly database" in str(cause) for cause in _causes(error)):
        return "make the database and its folder writable for this user"
    if any(_damaged(cause) for cause in _causes(error)):
        return "restore the database from a backup"
    return None


def is_refused(error: Exception) -> bool:
    """Whether a working store has understood the entry and will never accept it."""
    if isinstance(error, FileNotFoundError):
        return True  # an artifact that was deleted before it was sent
    return getattr(error, "error_code", None) in _REFUSED and repair_of(error) is None


def is_gone(error: BaseException) -> bool:
    """Whether MLflow itself reports that the object does not exist; a proxy's answer of 404 says nothing about that."""
    return getattr(error, "error_code", None) in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}


def http_status(error: BaseException) -> int | None:
    """The HTTP status of a server's answer, if the error contains it."""
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", None):
        return int(response.status_code)
    found = _STATUS.search(str(error))
    return int(found[1] or found[2]) if found else None


def first_line(error: BaseException) -> str:
    """The first line of an error message, without passwords, which some drivers include."""
    from eyegender.core.secrets import redact

    return redact((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]


def _damaged(error: BaseException) -> bool:
    """Whether a database is damaged or has lost its tables; a violated constraint is no such case."""
    original = getattr(error, "orig", error)
    if type(original) is sqlite3.DatabaseError:
        return True
    return isinstance(original, sqlite3.OperationalError) and str(original).startswith(
        ("no such table", "no such column")
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
