"""Where runs are tracked: what was asked for, else MLFLOW_TRACKING_URI, else sqlite in the checkout's `mlruns/`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from eyegender.errors import UserError


@dataclass(frozen=True)
class Location:
    """A tracking URI and, for the embedded store, where a new experiment keeps its artifacts."""

    uri: str
    artifacts: str | None

    @property
    def is_local(self) -> bool:
        return self.uri.startswith("sqlite:")


def find_location(uri: str | None, root: str | None = None) -> Location:
    """Raises UserError when the embedded store cannot be written to."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Location(uri, None)
    folder = Path(root).expanduser().resolve() if root else mlruns()
    # Nothing is made yet: a run that is refused for another reason leaves no empty store behind.
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "not writable" if there.is_dir() else "not a folder"
        raise UserError(f"tracking: cannot keep runs in {folder} ({there} is {what}); set tracking.root=FOLDER")
    return Location(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())


def mlruns() -> Path:
    """`mlruns/` of the checkout that the working directory lies in, else of the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "eyegender").is_dir() and (folder / "conf").is_dir():
            return folder / "mlruns"
    return here / "mlruns"
