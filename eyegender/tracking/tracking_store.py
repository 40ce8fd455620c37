"""The MLflow tracking store from which commands read runs, models and artifacts."""

from __future__ import annotations

import logging
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact
from eyegender.tracking.client import connect
from eyegender.tracking.errors import first_line, is_gone, is_refused, repair_of
from eyegender.tracking.location import DATABASE, Location, find_location, mlruns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from eyegender.core.schema import TrackingSection

_PAGE = 1000
_IDS = 100  # in one query
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """What a choice among many runs needs of one.

    Args:
        run_id: id in the tracking store.
        experiment_id: id of its experiment.
        name: its name, not necessarily unique.
        status: MLflow's status, such as `FINISHED`.
        started: when it started, in milliseconds since 1970.
        params: those parameters that were asked for and that it has.
        metrics: the same of metrics, with their last values.
        tags: the same of tags.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    started: int
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_training(self) -> bool:
        """Whether it trained a network, as far as `model.name` and `study` were asked for."""
        return _trained(self.params, self.tags)


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

    def runs(self, summaries: Sequence[RunSummary]) -> list[Run]:
        """The runs with all that they logged, in the order of the summaries; without those deleted meanwhile."""
        experiments = list(dict.fromkeys(summary.experiment_id for summary in summaries))
        ids = [summary.run_id for summary in summaries]
        found: dict[str, Run] = {}
        for start in range(0, len(ids), _IDS):
            listed = ", ".join(f"'{run_id}'" for run_id in ids[start : start + _IDS])
            found |= {run.info.run_id: run for run in self.search(experiments, f"attributes.run_id IN ({listed})")}
        return [found[run_id] for run_id in ids if run_id in found]

    def summaries(
        self, experiments: Sequence[str], *, params: Sequence[str], metrics: Sequence[str], tags: Sequence[str]
    ) -> list[RunSummary]:
        """Some parameters, metrics and tags of all runs of these experiments, the newest first.

        MLflow's search makes an object of every value of every run, which takes many seconds for thousands of runs. So
        a database is asked for these values alone. A server is searched, and so is a database with other tables.
        """
        keys = {"params": params, "latest_metrics": metrics, "tags": tags}
        if self.location.uri.partition(":")[0].partition("+")[0] in _DATABASES:
            try:
                return list(_summaries_of_database(self.location.uri, experiments, keys))
            except Exception as error:  # of SQLAlchemy or a database driver
                log.debug("the runs are searched by MLflow (%s)", first_line(error))
        return [
            RunSummary(
                run_id=run.info.run_id,
                experiment_id=run.info.experiment_id,
                name=run.info.run_name or "",
                status=run.info.status,
                started=run.info.start_time,
                params=_only(run.data.params, params),
                metrics=_only(run.data.metrics, metrics),
                tags=_only(run.data.tags, tags),
            )
            for run in self.search(list(experiments), "")
        ]

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
    return _trained(run.data.params, run.data.tags)


def _trained(params: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    return "model.name" in params and tags.get("study") != "parent"


def _only(values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _summaries_of_database(
    uri: str, experiments: Sequence[str], keys: Mapping[str, Sequence[str]]
) -> Iterator[RunSummary]:
    from sqlalchemy import NullPool, column, create_engine, select, table

    runs = table("runs", *map(column, ("run_uuid", "experiment_id", "name", "status", "start_time", "lifecycle_stage")))
    wanted = runs.c.experiment_id.in_([int(each) for each in experiments]), runs.c.lifecycle_stage == "active"
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        order = runs.c.start_time.desc(), runs.c.run_uuid
        rows = connection.execute(select(runs).where(*wanted).order_by(*order)).all()
        found: dict[str, dict[str, dict[str, Any]]] = {row.run_uuid: {name: {} for name in keys} for row in rows}
        for name, of_kind in keys.items():
            columns = ["run_uuid", "key", "value", *(["is_nan"] if name == "latest_metrics" else [])]
            values = table(name, *map(column, columns))
            query = select(values).join(runs, runs.c.run_uuid == values.c.run_uuid)
            for row in connection.execute(query.where(*wanted, values.c.key.in_(of_kind))):
                if row.run_uuid in found:
                    is_nan = name == "latest_metrics" and row.is_nan
                    found[row.run_uuid][name][row.key] = math.nan if is_nan else row.value
    engine.dispose()
    for row in rows:
        own = found[row.run_uuid]
        yield RunSummary(
            run_id=row.run_uuid,
            experiment_id=str(row.experiment_id),
            name=row.name or "",
            status=row.status,
            started=row.start_time,
            params=own["params"],
            metrics=own["latest_metrics"],
            tags=own["tags"],
        )


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
