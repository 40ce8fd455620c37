"""The MLflow tracking store from which commands read runs, models and artifacts."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact
from eyegender.tracking.client import connect
from eyegender.tracking.errors import first_line, is_gone, is_refused, repair_of
from eyegender.tracking.location import DATABASE, Location, find_location, mlruns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from eyegender.core.schema import TrackingSection

_PAGE = 1000


@dataclass(frozen=True)
class TrackingStore:
    """A tracking store and a client that is connected to it."""

    location: Location
    client: MlflowClient

    @property
    def name(self) -> str:
        """The tracking URI without its password."""
        return redact(self.location.uri)

    def run(self, run_id: str) -> Run:
        """The run with this id; raises UserError if there is none."""
        try:
            return self.client.get_run(run_id)
        except Exception as error:  # of a database driver or an HTTP library
            if not (is_gone(error) or is_refused(error)):
                raise self.unreadable(f"run {run_id}", error) from error
            raise UserError(f"no run {run_id} in {self.name}; copy a run's id from the MLflow page") from error

    def unreadable(self, what: str, error: Exception) -> UserError:
        """The error for an object that may exist but cannot be read at the moment."""
        repair = repair_of(error) or "check that the store is reachable, then try again"
        return UserError(f"{what} in {self.name} must be readable, got {first_line(error)}; {repair}")

    def search(self, experiments: list[str], query: str) -> list[Run]:
        """All runs that match `query`, the newest first."""
        runs: list[Run] = []
        token: str | None = None
        while experiments:
            page = self.client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                break
        return runs

    def experiment_id(self, name: str) -> str:
        """The id of an experiment; raises UserError with the known names if there is none."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            known = ", ".join(sorted(one.name for one in self.client.search_experiments()))
            raise UserError(f"no experiment {name!r} in {self.name}; known: {known}; set tracking.experiment")
        if experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"experiment {name!r} in {self.name} has been deleted; restore it on MLflow's page, or set "
                "tracking.experiment"
            )
        experiment_id: str = experiment.experiment_id
        return experiment_id

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Make this store MLflow's global one inside the context: MLflow resolves `models:/` only through that."""
        # There is no public way to read or unset what mlflow.set_tracking_uri sets.
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


def is_training(run: Run) -> bool:
    """Whether the run trained a network; comparisons and studies are stored as runs, too."""
    return "model.name" in run.data.params and run.data.tags.get("study") != "parent"


def open_store(tracking: TrackingSection) -> TrackingStore:
    """Connect to the store that the config names.

    Raises:
        UserError: the store does not exist yet, or is unreachable.
    """
    if not (tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        folder = Path(tracking.root).expanduser() if tracking.root else mlruns()
        if not (folder / DATABASE).is_file():
            raise UserError(f"no runs are tracked in {folder}; train first, or set tracking.root or tracking.uri")
    location = find_location(tracking.uri, tracking.root)
    if location.database is not None and not location.database.is_file():  # connecting would create it
        raise UserError(f"no runs are tracked in {location.database}; correct tracking.uri")
    try:
        return TrackingStore(location, connect(location.uri))
    except UserError:
        raise
    except Exception as error:  # of a database driver or an HTTP library
        repair = repair_of(error) or "set tracking.uri"
        raise UserError(f"tracking: cannot reach {redact(location.uri)} ({first_line(error)}); {repair}") from error
