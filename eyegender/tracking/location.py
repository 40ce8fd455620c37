"""Where runs are tracked: the configured URI, otherwise MLFLOW_TRACKING_URI, otherwise a local store in `mlruns/`.

A local store is an SQLite database with a folder of artifacts beside it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from eyegender.core.errors import UserError

DATABASE = "mlflow.db"


@dataclass(frozen=True)
class Location:
    """A tracking URI and, for a local store, where a new experiment stores its artifacts."""

    uri: str
    artifacts: str | None

    @property
    def database(self) -> Path | None:
        """The database of a local store; None for a server."""
        return database_file(self.uri)

    @property
    def is_local(self) -> bool:
        return self.database is not None


def database_file(uri: str) -> Path | None:
    """The file of an SQLite URI; None for every other URI and for a database in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or path.startswith("file:") or path in {"", ":memory:"}:
        return None
    return Path(path)


def database_uri(path: Path) -> str:
    """The SQLite URI of a file whose path may contain any characters."""
    quoted = re.sub("[%?#]", lambda found: quote(found[0]), str(path))
    # For sqlite:/// MLflow would create a folder with the quoted name; for sqlite+pysqlite:/// it creates none.
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def find_location(uri: str | None, root: str | None = None) -> Location:
    """The tracking store to use. Nothing is created yet, so that a run that is refused later leaves no empty store.

    Args:
        uri: tracking URI; None uses MLFLOW_TRACKING_URI or, if that is not set, a local store.
        root: folder of the local store; None uses `mlruns()`.

    Raises:
        UserError: the folder of the local store cannot be created or is not writable.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        database = database_file(uri)
        return Location(uri, None if database is None else artifacts_beside(database))
    # Resolved, so that a store has the same URI if it is reached through a link.
    folder = (Path(root).expanduser() if root else mlruns()).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "not writable" if existing.is_dir() else "not a folder"
        raise UserError(f"tracking: cannot store runs in {folder} ({existing} is {what}); set tracking.root=FOLDER")
    return Location(database_uri(folder / DATABASE), artifacts_beside(folder / DATABASE))


def artifacts_beside(database: Path) -> str:
    """URI of the folder in which the experiments of a local store keep their artifacts."""
    return (database.absolute().parent / "artifacts").as_uri()


def mlruns() -> Path:
    """`mlruns/` in the checkout that contains the working directory; without one, in the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "eyegender").is_dir() and (folder / "conf").is_dir():
            return folder / "mlruns"
    return here / "mlruns"
