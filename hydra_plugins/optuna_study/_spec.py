"""Which storage a study is in, in a form that may be pickled and written down: it holds no password."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ._errors import StudyError
from ._secrets import hide, hide_in_urls, remember, secrets_in


@dataclass(frozen=True)
class StorageSpec:
    """Args:
    kind: memory, sqlite, journal, grpc, rdb or object.
    shown: the URL without its password.
    variable: the environment variable that carries the URL to workers, when it has a password.
    target: the storage as a config with `_target_`, for kind `object`.
    """

    kind: str
    shown: str
    variable: str | None = None
    target: Mapping[str, Any] | None = None

    @property
    def path(self) -> Path | None:
        """The file of a sqlite or journal storage."""
        if self.kind == "sqlite":
            return Path(unquote(self.shown.partition(":///")[2].partition("?")[0]))
        if self.kind == "journal":
            return Path(self.shown.removeprefix("journal://"))
        return None

    def url(self) -> str:
        """The URL with its password.

        Raises:
            StudyError: this process was not given the variable that holds it.
        """
        if self.variable is None:
            return self.shown
        url = os.environ.get(self.variable)
        if url is None:
            raise StudyError(
                f"the worker needs the environment variable {self.variable}, which carries the URL of {self.shown}; "
                "let the launcher pass the environment on, or keep the password out of the URL (PGPASSFILE)"
            )
        return url

    @property
    def secrets(self) -> tuple[str, ...]:
        return secrets_in(os.environ.get(self.variable, "")) if self.variable else ()


def storage_spec(value: Any) -> StorageSpec:  # noqa: PLR0911 - one per kind
    """Read `hydra.sweeper.storage`; a relative file becomes absolute, so that workers elsewhere find the same one.

    A URL with a password goes into an environment variable of this process, which its workers inherit.

    Raises:
        StudyError: it is no storage that workers can share signs of life through.
    """
    if value is None:
        return StorageSpec("memory", "memory")
    if isinstance(value, Mapping):
        if "_target_" not in value:
            raise StudyError(f"storage as a mapping needs _target_, got the keys {sorted(map(str, value))}")
        if any(secrets_in(text) for text in value.values() if isinstance(text, str)):
            raise StudyError(
                "a storage with a password must be given as a URL, got a mapping; set hydra.sweeper.storage"
            )
        return StorageSpec("object", str(value["_target_"]), target=dict(value))
    url = str(value)
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise StudyError(f"storage must be a URL such as sqlite:///study.db, got '{hide(url)}'")
    if scheme.partition("+")[0] == "sqlite":
        return _sqlite(scheme, rest)
    if scheme == "journal":
        if rest in ("", "/"):
            raise StudyError(f"a journal needs a file, as in journal:///path/study.log, got '{url}'")
        return StorageSpec("journal", f"journal://{Path(rest).expanduser().absolute()}")
    if scheme == "grpc":
        host, colon, port = rest.strip("/").rpartition(":")
        if not (host and colon and port.isdigit()):
            raise StudyError(f"a gRPC proxy is written grpc://host:port, got '{url}'")
        return StorageSpec("grpc", f"grpc://{host}:{port}")
    if scheme.startswith("redis"):
        raise StudyError(
            f"redis is no storage here, got '{hide(url)}'; use a database URL, journal:///file or grpc://host:port"
        )
    shown = hide_in_urls(url)  # and not a database that is called what some password is
    remember(secrets_in(url))
    if shown == url:
        return StorageSpec("rdb", url)
    variable = f"OPTUNA_STUDY_URL_{hashlib.sha256(shown.encode()).hexdigest()[:8].upper()}"
    os.environ[variable] = url
    return StorageSpec("rdb", shown, variable)


def _sqlite(scheme: str, rest: str) -> StorageSpec:
    path, question, query = rest.removeprefix("/").partition("?")
    if path in ("", ":memory:"):
        raise StudyError("sqlite needs a file, as in sqlite:///study.db; for a study in memory use storage=null")
    # As SQLAlchemy reads it: a folder's own %, ? and # are quoted in the address.
    absolute = str(Path(unquote(path)).expanduser().absolute())
    quoted = re.sub("[%?#]", lambda found: quote(found[0]), absolute)
    return StorageSpec("sqlite", f"{scheme}:///{quoted}{question}{query}")
