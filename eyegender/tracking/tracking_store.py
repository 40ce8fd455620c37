"""The MLflow store that a command reads from and writes to."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact
from eyegender.tracking.errors import first_line, is_gone, is_refused, repair_of
from eyegender.tracking.location import DATABASE, Location, find_location, mlruns
from eyegender.tracking.writer import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from eyegender.core.schema import TrackingSection

_PAGE = 1000


@dataclass(frozen=True)
class TrackingStore:
    """Where runs are, and how to talk to it."""

    location: Location
    client: MlflowClient

    @property
    def name(self) -> str:
        """Its address without a password."""
        return redact(self.location.uri)

    def run(self, run_id: str) -> Run:
        """Raises UserError where there is no such run."""
        try:
            return self.client.get_run(run_id)
        except Exception as error:  # of a database driver or an HTTP library
            if not (is_gone(error) or is_refused(error)):
                raise self.unreadable(f"run {run_id}", error) from error
            raise UserError(f"no run {run_id} in {self.name}; copy a run's id from the MLflow page") from error

    def unreadable(self, what: str, error: Exception) -> UserError:
        """The line for what is perhaps there, but cannot be read just now."""
        repair = repair_of(error) or "see that the store can be reached, then try again"
        return UserError(f"{what} in {self.name} must be readable, got {first_line(error)}; {repair}")

    def search(self, experiments: list[str], query: str) -> list[Run]:
        """All runs that `query` finds, the newest first."""
        found: list[Run] = []
        token: str | None = None
        while experiments:
            page = self.client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                break
        return found

    def experiment_id(self, name: str) -> str:
        """Raises UserError with the known names where there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            known = ", ".join(sorted(experiment.name for experiment in self.client.search_experiments()))
            raise UserError(f"no experiment {name!r} in {self.name}; known: {known}; set tracking.experiment")
        if found.lifecycle_stage == "deleted":
            raise UserError(
                f"experiment {name!r} in {self.name} has been deleted; restore it on MLflow's page, or set "
                "tracking.experiment"
            )
        experiment_id: str = found.experiment_id
        return experiment_id

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """MLflow resolves `models:/` through global state only; it is put back afterwards."""
        # What mlflow.set_tracking_uri sets can be read, and unset again, in no public way.
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri

        name = "MLFLOW_TRACKING_URI"
        before = os.environ.get(name)
        try:
            with _use_tracking_uri(self.location.uri):
                yield
        finally:
            os.environ.pop(name, None)
            if before is not None:
                os.environ[name] = before


def open_store(tracking: TrackingSection) -> TrackingStore:
    """The store that the config names.

    Raises:
        UserError: nothing has been tracked there yet, or it cannot be reached.
    """
    if not (tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        folder = Path(tracking.root).expanduser() if tracking.root else mlruns()
        if not (folder / DATABASE).is_file():
            raise UserError(f"no runs are tracked in {folder}; train first, or set tracking.root or tracking.uri")
    location = find_location(tracking.uri, tracking.root)
    if location.database is not None and not location.database.is_file():  # which would be made
        raise UserError(f"no runs are tracked in {location.database}; correct tracking.uri")
    try:
        return TrackingStore(location, Store(location.uri, location.artifacts, Path.cwd()).client)
    except UserError:
        raise
    except Exception as error:  # whatever a database driver or an HTTP library comes up with
        repair = repair_of(error) or "set tracking.uri"
        raise UserError(f"tracking: cannot reach {redact(location.uri)} ({first_line(error)}); {repair}") from error
