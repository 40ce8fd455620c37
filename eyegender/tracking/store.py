"""Applies journal entries to an MLflow tracking store. Every call may be repeated: none of them doubles anything."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING

from eyegender.core.atomic_write import atomic_write
from eyegender.tracking.embedded import adapt_addresses, opening
from eyegender.tracking.experiment_view import TAGS
from eyegender.tracking.faults import is_gone, is_refused
from eyegender.tracking.location import database_file
from eyegender.tracking.model_logging import AT_ONCE, log_model
from eyegender.tracking.patience import SECONDS, TIMEOUT, waiting_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

    from eyegender.tracking.journal import Entry

log = logging.getLogger("eyegender")

RUN_FILE = "run.json"
KEY_TAG = "eyegender.key"
MAX_PARAMS, MAX_METRICS = 100, 1000  # of one log_batch request


class RunGoneError(Exception):
    """The run is not in the store any more, and everything that was said of it must be sent again."""


class Store:
    """One run in one tracking store.

    Args:
        uri: tracking URI.
        artifact_location: where a new experiment keeps its artifacts, or None for the server's choice.
        folder: the run's output folder; artifact paths are relative to it, and `run.json` is written there.
    """

    def __init__(self, uri: str, artifact_location: str | None, folder: Path) -> None:
        self.uri, self.artifact_location, self.folder = uri, artifact_location, folder
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        # Steps of each metric that the store holds; None until they are read of a run that was there before.
        self._held: dict[str, set[int]] | None = None
        self._made_client: MlflowClient | None = None
        self._gone: str | None = None  # a run that was said to be lost
        self.attempt = 0  # at an upload; each next one is waited for twice as long

    @property
    def client(self) -> MlflowClient:
        if self._made_client is None:
            # MLflow prints the address of each run, password included.
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
            # A bar for two copied files would stand between a run's own lines.
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            # The sender has its own patience; MLflow's would hold one request for many minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault(TIMEOUT, str(SECONDS))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # import-time deprecations inside MLflow are nobody's to repair here
                import mlflow

            # Migration notes, retries and the like would stand between a run's own lines.
            for noisy in ("mlflow", "alembic", "urllib3"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
            database = database_file(self.uri)
            with opening(database) if database is not None else contextlib.nullcontext():
                client = mlflow.MlflowClient(self.uri)
                client.search_experiments(max_results=1)
            self._made_client = client
        return self._made_client

    def apply(self, entry: Entry) -> None:
        """Bring one entry into the store.

        Raises:
            RunGoneError: the store has lost the run.
        """
        self._alive(lambda: getattr(self, f"_apply_{entry['op']}")(entry))

    def apply_metrics(self, entries: list[Entry]) -> None:
        """Bring many epochs' metrics into the store with few requests."""
        self._alive(lambda: self._log_metrics(entries))

    def _log_metrics(self, entries: list[Entry]) -> None:
        batch = [metric for entry in entries for metric in self._as_metrics(entry)]
        for start in range(0, len(batch), MAX_METRICS):
            part = batch[start : start + MAX_METRICS]
            self.client.log_batch(self._run(), metrics=part)
            for metric in part:
                self._steps(metric.key).add(metric.step)

    def apply_artifacts(self, entries: list[Entry]) -> None:
        """Bring several files into the store at a time: each waits for an answer."""
        self.apply(entries[0])  # alone, as it opens the way that the others share
        paths = [self._inside(entry["path"]) for entry in entries]
        with waiting_for(paths, self.attempt), ThreadPool(AT_ONCE) as pool:
            pool.map(self._log_artifact, entries[1:])

    def answers(self) -> bool:
        """Whether the store answers a small request about the run."""
        try:
            self.client.get_run(self._run())
        except Exception:
            return False
        return True

    def _alive(self, call: Callable[[], None]) -> None:
        """Make a call once more where it failed because the run, or its experiment, had been deleted."""
        try:
            call()
        except Exception as error:
            if self.run_id is None or not is_refused(error) or not self._restore(self.run_id):
                raise
            call()

    def _restore(self, run_id: str) -> bool:
        """Take the run that goes on out of MLflow's bin; False where it is not in there.

        Raises:
            RunGoneError: the run was deleted for good.
        """
        try:
            info = self.client.get_run(run_id).info
        except Exception as error:
            if not is_gone(error):
                raise
            log.warning("tracking: run %s is not in the store any more; all of it goes into a new run", run_id)
            self._gone = run_id
            raise RunGoneError(run_id) from error
        restored = self._restore_experiment(info.experiment_id)
        if self.client.get_run(run_id).info.lifecycle_stage == "deleted":
            self.client.restore_run(run_id)
            log.warning("tracking: run %s had been deleted; it is restored, as it goes on", run_id)
            restored = True
        return restored

    def _restore_experiment(self, experiment_id: str) -> bool:
        experiment = self.client.get_experiment(experiment_id)
        if experiment.lifecycle_stage != "deleted":
            return False
        self.client.restore_experiment(experiment_id)
        log.warning("tracking: experiment %s had been deleted; it is restored with its runs", experiment.name)
        return True

    def forget(self) -> None:
        """Of a run that is gone; the next entry that begins it makes it anew."""
        self.run_id, self._held = None, None

    def attach(self, beginning: Entry) -> None:
        """Go on with the run that an earlier process created: the one that `run.json` names, else the entry's."""
        try:
            known = json.loads((self.folder / RUN_FILE).read_text())
            self.run_id, self.experiment_id = known["run_id"], known["experiment_id"]
        except (OSError, ValueError, KeyError, TypeError):
            self._apply_run(beginning)

    def _run(self) -> str:
        if self.run_id is None:
            raise RuntimeError("the journal does not begin with its run")
        return self.run_id

    def _as_metrics(self, entry: Entry) -> list[Metric]:
        from mlflow.entities import Metric

        return [
            Metric(name, value, entry["time"], entry["step"])
            for name, value in entry["values"].items()
            if entry["step"] not in self._steps(name)
        ]

    def _steps(self, name: str) -> set[int]:
        """At which steps the store holds this metric. A run that goes on repeats what followed its last checkpoint."""
        if self._held is None:
            names = self.client.get_run(self._run()).data.metrics
            self._held = {
                known: {metric.step for metric in self.client.get_metric_history(self._run(), known)} for known in names
            }
        return self._held.setdefault(name, set())

    def _apply_run(self, entry: Entry) -> None:
        """Create the run, or find it: by id when a checkpoint knew it, else by the key that every attempt shares."""
        self._held = None
        run = self._find(entry)
        if run is None:
            experiment_id = self._experiment(entry["experiment"])
            run_id = self.client.create_run(
                experiment_id, entry["time"], {**entry["tags"], KEY_TAG: entry["key"]}, entry["name"]
            ).info.run_id
            self._held = {}
        else:
            run_id, experiment_id = run.info.run_id, run.info.experiment_id
            if run.info.lifecycle_stage == "deleted":
                self._restore(run_id)
            if not _ended_after(run, entry):
                self.client.update_run(run_id, status="RUNNING")
        self.run_id, self.experiment_id = run_id, experiment_id
        # On a full disk the run is found by its key.
        with contextlib.suppress(OSError), atomic_write(self.folder / RUN_FILE, sync=False) as file:
            json.dump({"run_id": run_id, "experiment_id": experiment_id, "key": entry["key"]}, file)

    def _find(self, entry: Entry) -> Run | None:
        from mlflow.entities import ViewType

        if (run_id := entry.get("run_id")) is not None:
            try:
                return self.client.get_run(run_id)
            except Exception as error:
                if not is_gone(error):
                    raise
        found = self.client.get_experiment_by_name(entry["experiment"])
        if found is not None:
            key = f"tags.`{KEY_TAG}` = '{entry['key']}'"
            runs = self.client.search_runs([found.experiment_id], key, ViewType.ALL, max_results=1)
            if runs:
                return runs[0]
        if run_id not in {None, self._gone}:
            log.warning("tracking: run %s is not in the store any more; it goes on as a new run", run_id)
        return None

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                made: str = self.client.create_experiment(name, self.artifact_location, dict(TAGS))
            except MlflowException:  # another run was quicker
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
            else:
                return made
        self._restore_experiment(found.experiment_id)
        for tag, value in TAGS.items():
            if tag not in found.tags:
                self.client.set_experiment_tag(found.experiment_id, tag, value)
        experiment_id: str = found.experiment_id
        return experiment_id

    def _apply_params(self, entry: Entry) -> None:
        from mlflow.entities import Param

        # Of a run that goes on they are there already, and may not change.
        if entry.get("unless_there") and self.client.get_run(self._run()).data.params:
            return
        params = [Param(name, value) for name, value in entry["values"].items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self._run(), params=params[start : start + MAX_PARAMS])

    def _apply_metrics(self, entry: Entry) -> None:
        self._log_metrics([entry])

    def _apply_tags(self, entry: Entry) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self._run(), tags=[RunTag(name, value) for name, value in entry["values"].items()])

    def _apply_dataset(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            entry["name"], entry["digest"], "local", json.dumps({"uri": entry["source"]}), None, entry["profile"]
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self._run(), datasets=[DatasetInput(dataset, tags)])

    def _apply_artifact(self, entry: Entry) -> None:
        self._follow_moves()
        with waiting_for([self._inside(entry["path"])], self.attempt):
            self._log_artifact(entry)

    def _log_artifact(self, entry: Entry) -> None:
        self.client.log_artifact(self._run(), str(self._inside(entry["path"])), entry["to"])

    def _apply_model(self, entry: Entry) -> None:
        folder = self._inside(entry["path"])
        self._follow_moves()
        with waiting_for([folder], self.attempt):
            log_model(self.client, self._run(), folder, entry)

    def _follow_moves(self) -> None:
        """Where the store was moved meanwhile, MLflow would make its old folder again and write there."""
        database = database_file(self.uri)
        if database is not None:
            adapt_addresses(database)

    def _inside(self, path: str) -> Path:
        """A file of the run; a journal that came from elsewhere must not send others of this machine."""
        found = self.folder / path
        if not found.resolve().is_relative_to(self.folder.resolve()):
            raise FileNotFoundError(f"{path} is not in the run's folder")
        return found

    def _apply_end(self, entry: Entry) -> None:
        if not _ended_after(self.client.get_run(self._run()), entry):
            self.client.set_terminated(self._run(), entry["status"], entry["time"])

    def _apply_cut(self, entry: Entry) -> None:
        """A line that a kill cut short: what it said is said again by the resumed run."""


def _ended_after(run: Run, entry: Entry) -> bool:
    """Whether a later attempt, told to the store before this one, has ended the run already."""
    return bool(run.info.end_time and run.info.end_time > entry["time"])
