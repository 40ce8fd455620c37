"""Where runs are tracked: what was asked for, else MLFLOW_TRACKING_URI, else sqlite in the checkout's `mlruns/`."""

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
    """A tracking URI and, for the embedded store, where a new experiment keeps its artifacts."""

    uri: str
    artifacts: str | None

    @property
    def database(self) -> Path | None:
        """The file of the embedded store; None for a server."""
        return database_file(self.uri)

    @property
    def is_local(self) -> bool:
        return self.database is not None


def database_file(uri: str) -> Path | None:
    """The file that an sqlite address names; None for every other address and for a database in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or path.startswith("file:") or path in {"", ":memory:"}:
        return None
    return Path(path)


def database_uri(path: Path) -> str:
    """The sqlite address of a file, whatever its folders are called."""
    quoted = re.sub("[%?#]", lambda found: quote(found[0]), str(path))
    # For a plain sqlite:/// MLflow would make a folder of the quoted name; with the driver it leaves that to us.
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def find_location(uri: str | None, root: str | None = None) -> Location:
    """Raises UserError when the embedded store cannot be written to."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        database = database_file(uri)
        return Location(uri, None if database is None else artifacts_beside(database))
    # Resolved, so that a store that is reached through a link has one address.
    folder = (Path(root).expanduser() if root else mlruns()).resolve()
    # Nothing is made yet: a run that is refused for another reason leaves no empty store behind.
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "not writable" if there.is_dir() else "not a folder"
        raise UserError(f"tracking: cannot keep runs in {folder} ({there} is {what}); set tracking.root=FOLDER")
    return Location(database_uri(folder / DATABASE), artifacts_beside(folder / DATABASE))


def artifacts_beside(database: Path) -> str:
    """Where the experiments of an embedded store keep their artifacts."""
    return (database.absolute().parent / "artifacts").as_uri()


def mlruns() -> Path:
    """`mlruns/` of the checkout that the working directory lies in, else of the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "eyegender").is_dir() and (folder / "conf").is_dir():
            return folder / "mlruns"
    return here / "mlruns"
