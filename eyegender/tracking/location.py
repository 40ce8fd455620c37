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
    probe = folder / f".probe-{os.getpid()}"
    try:
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"tracking: cannot write to {folder} ({error.strerror}); make it writable, or set tracking.root=FOLDER"
        ) from error
    return Location(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())


def mlruns() -> Path:
    """`mlruns/` of the checkout that the working directory lies in, else of the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "eyegender").is_dir() and (folder / "conf").is_dir():
            return folder / "mlruns"
    return here / "mlruns"
