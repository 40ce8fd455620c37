"""Applies journal entries to an MLflow tracking store. Applying an entry twice duplicates nothing."""

from __future__ import annotations

import contextlib
import json
import logging
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING

from eyegender.core.atomic_write import atomic_write
from eyegender.tracking.client import CONCURRENT_REQUESTS, connect_again, upload_timeout
from eyegender.tracking.errors import is_gone, is_refused
from eyegender.tracking.experiment_view import TAGS, VIEW
from eyegender.tracking.local_store import adapt_addresses
from eyegender.tracking.location import database_file
from eyegender.tracking.model_logging import log_model
from eyegender.tracking.names import SYSTEM
from eyegender.tracking.notes import with_links, write_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow.entities import Experiment, Metric, Run
    from mlflow.tracking import MlflowClient

    from eyegender.tracking.journal import Entry

log = logging.getLogger("eyegender")

RUN_FILE = "run.json"
KEY_TAG = "eyegender.key"
MAX_PARAMS, MAX_METRICS = 100, 1000  # per log_batch request


class RunGoneError(Exception):
    """The run no longer exists in the store, so all of its entries must be sent again."""


class RunWriter:
    """Writes one run to one tracking store.

    Args:
        uri: tracking URI.
        artifact_location: where a new experiment stores its artifacts; None leaves the choice to the server.
        folder: output folder of the run. Paths of artifacts are relative to it, and `run.json` is written there.
        is_new: whether no attempt to create the run was made yet, so that it need not be looked for.
    """

    def __init__(self, uri: str, artifact_location: str | None, folder: Path, *, is_new: bool = False) -> None:
        self.uri, self.artifact_location, self.folder = uri, artifact_location, folder
        self.is_new = is_new
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.attempt = 0  # of the current upload; each attempt has twice the time of the previous one
        self._client: MlflowClient | None = None
        # Steps of each metric that the store contains; None until they are read for a run that existed before.
        self._stored_steps: dict[str, set[int]] | None = None
        self._stored_values: dict[str, float] = {}  # the last ones, as far as `_stored_steps` knows them
        self._reported_gone: str | None = None  # id of a run about whose loss a warning was logged

    @property
    def client(self) -> MlflowClient:
        """The client, connected at first use, because the store may be unreachable when the run starts."""
        if self._client is None:
            self._client = connect_again(self.uri)
        return self._client

    def apply(self, entry: Entry) -> None:
        """Apply one entry.

        Raises:
            RunGoneError: the run no longer exists in the store.
        """
        self._with_restore(lambda: getattr(self, f"_apply_{entry['op']}")(entry))

    def apply_metrics(self, entries: list[Entry]) -> None:
        """Apply the metrics of many epochs with few requests."""
        self._with_restore(lambda: self._log_metrics(entries))

    def apply_artifacts(self, entries: list[Entry]) -> None:
        """Upload several files concurrently."""
        self.apply(entries[0])  # before the others, because it may have to connect or to restore the run
        paths = [self._inside(entry["path"]) for entry in entries]
        with upload_timeout(paths, self.attempt), ThreadPool(CONCURRENT_REQUESTS) as pool:
            pool.map(self._log_artifact, entries[1:])

    def responds(self) -> bool:
        """Whether the store answers a small request about the run."""
        try:
            self.client.get_run(self._run())
        except Exception:
            return False
        return True

    def attach(self, first: Entry) -> None:
        """Continue the run that an earlier process created: the one in `run.json`, otherwise the one of its entry."""
        try:
            known = json.loads((self.folder / RUN_FILE).read_text())
            self.run_id, self.experiment_id = known["run_id"], known["experiment_id"]
        except (OSError, ValueError, KeyError, TypeError):
            self._apply_run(first)

    def detach(self) -> None:
        """Forget a run that no longer exists; its first entry then creates a new one."""
        self.run_id, self._stored_steps, self._stored_values = None, None, {}

    def _with_restore(self, call: Callable[[], None]) -> None:
        """Make a call, and repeat it if it failed because the run or its experiment had been deleted."""
        try:
            call()
        except Exception as error:
            if self.run_id is None or not is_refused(error) or not self._restore_run(self.run_id):
                raise
            call()

    def _restore_run(self, run_id: str) -> bool:
        """Restore a deleted run, because it continues; False if it had not been deleted.

        Raises:
            RunGoneError: the run was deleted permanently.
        """
        try:
            info = self.client.get_run(run_id).info
        except Exception as error:
            if not is_gone(error):
                raise
            log.warning("tracking: run %s no longer exists in the store; everything is sent to a new run", run_id)
            self._reported_gone = run_id
            raise RunGoneError(run_id) from error
        restored = self._restore_experiment(self.client.get_experiment(info.experiment_id))
        if self.client.get_run(run_id).info.lifecycle_stage == "deleted":
            self.client.restore_run(run_id)
            log.warning("tracking: run %s had been deleted; it is restored, because it continues", run_id)
            restored = True
        return restored

    def _restore_experiment(self, experiment: Experiment) -> bool:
        if experiment.lifecycle_stage != "deleted":
            return False
        self.client.restore_experiment(experiment.experiment_id)
        log.warning("tracking: experiment %s had been deleted; it is restored with its runs", experiment.name)
        return True

    def _run(self) -> str:
        if self.run_id is None:
            raise RuntimeError("the journal does not begin with its run")
        return self.run_id

    def _log_metrics(self, entries: list[Entry]) -> None:
        metrics = [metric for entry in entries for metric in self._new_metrics(entry)]
        for start in range(0, len(metrics), MAX_METRICS):
            batch = metrics[start : start + MAX_METRICS]
            self.client.log_batch(self._run(), metrics=batch)
            for metric in batch:
                self._steps(metric.key).add(metric.step)
                self._stored_values[metric.key] = metric.value

    def _new_metrics(self, entry: Entry) -> list[Metric]:
        from mlflow.entities import Metric

        if entry.get("replaces"):
            # Behind what an earlier version may have logged at another step: the last step is the one that counts.
            steps = {name: max(self._steps(name), default=entry["step"]) for name in entry["values"]}
            return [
                Metric(name, value, entry["time"], steps[name])
                for name, value in entry["values"].items()
                if value != self._stored_values.get(name)
            ]
        return [
            Metric(name, value, entry["time"], entry["step"])
            for name, value in entry["values"].items()
            if entry["step"] not in self._steps(name)
        ]

    def _steps(self, name: str) -> set[int]:
        """The steps of this metric in the store. A resumed run repeats the epochs after its last checkpoint."""
        if self._stored_steps is None:
            self._stored_values = dict(self.client.get_run(self._run()).data.metrics)
            self._stored_steps = {
                known: {metric.step for metric in self.client.get_metric_history(self._run(), known)}
                for known in self._stored_values
                if not known.startswith(SYSTEM)  # thousands of points, and none is sent again
            }
        return self._stored_steps.setdefault(name, set())

    def _apply_run(self, entry: Entry) -> None:
        """Create the run or find it: by its id if a checkpoint contains it, otherwise by the key of all attempts."""
        self._stored_steps, self._stored_values = None, {}
        run = self._find(entry)
        if run is None:
            experiment_id = self._experiment(entry["experiment"])
            tags = {**entry["tags"], KEY_TAG: entry["key"]}
            run_id = self.client.create_run(experiment_id, entry["time"], tags, entry["name"]).info.run_id
            self._stored_steps = {}
        else:
            run_id, experiment_id = run.info.run_id, run.info.experiment_id
            if run.info.lifecycle_stage == "deleted":
                self._restore_run(run_id)
            if not _ended_after(run, entry):
                self.client.update_run(run_id, status="RUNNING")
        self.run_id, self.experiment_id = run_id, experiment_id
        # On a full disk, the run is found by its key.
        with contextlib.suppress(OSError), atomic_write(self.folder / RUN_FILE, sync=False) as file:
            json.dump({"run_id": run_id, "experiment_id": experiment_id, "key": entry["key"]}, file)

    def _find(self, entry: Entry) -> Run | None:
        from mlflow.entities import ViewType

        if self.is_new:
            self.is_new = False  # the request that follows may succeed without an answer
            return None
        if (run_id := entry.get("run_id")) is not None:
            try:
                return self.client.get_run(run_id)
            except Exception as error:
                if not is_gone(error):
                    raise
        experiment = self.client.get_experiment_by_name(entry["experiment"])
        if experiment is not None:
            key = f"tags.`{KEY_TAG}` = '{entry['key']}'"
            runs = self.client.search_runs([experiment.experiment_id], key, ViewType.ALL, max_results=1)
            if runs:
                return runs[0]
        if run_id not in {None, self._reported_gone}:
            log.warning("tracking: run %s no longer exists in the store; it continues as a new run", run_id)
        return None

    def _experiment(self, name: str) -> str:
        """The id of the experiment, which is created if it does not exist and restored if it was deleted."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                created: str = self.client.create_experiment(name, self.artifact_location, dict(TAGS))
            except MlflowException:  # another run has just created it
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
            else:
                return created
        self._restore_experiment(experiment)
        for tag, value in TAGS.items():
            if tag not in experiment.tags or (tag == VIEW and experiment.tags[tag] != value):
                self.client.set_experiment_tag(experiment.experiment_id, tag, value)
        experiment_id: str = experiment.experiment_id
        return experiment_id

    def _apply_params(self, entry: Entry) -> None:
        from mlflow.entities import Param

        # A resumed run has its parameters already, and parameters cannot change.
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

    def _apply_note(self, entry: Entry) -> None:
        run_id = self._run()
        write_note(self.client, run_id, with_links(self.client, run_id, entry["text"]))

    def _apply_dataset(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            entry["name"], entry["digest"], "local", json.dumps({"uri": entry["source"]}), None, entry["profile"]
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self._run(), datasets=[DatasetInput(dataset, tags)])

    def _apply_artifact(self, entry: Entry) -> None:
        self._adapt_to_moves()
        with upload_timeout([self._inside(entry["path"])], self.attempt):
            self._log_artifact(entry)

    def _log_artifact(self, entry: Entry) -> None:
        self.client.log_artifact(self._run(), str(self._inside(entry["path"])), entry["to"])

    def _apply_model(self, entry: Entry) -> None:
        folder = self._inside(entry["path"])
        self._adapt_to_moves()
        with upload_timeout([folder], self.attempt):
            log_model(self.client, self._run(), folder, entry)

    def _adapt_to_moves(self) -> None:
        """If the local store was moved since, MLflow would create its old folder again and write to it."""
        database = database_file(self.uri)
        if database is not None:
            adapt_addresses(database)

    def _inside(self, path: str) -> Path:
        """A file in the output folder. A journal from somebody else must not send other files of this machine."""
        file = self.folder / path
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise FileNotFoundError(f"{path} is not in the run's folder")
        return file

    def _apply_end(self, entry: Entry) -> None:
        if not _ended_after(self.client.get_run(self._run()), entry):
            self.client.set_terminated(self._run(), entry["status"], entry["time"])

    def _apply_cut(self, entry: Entry) -> None:
        """An incomplete line of a process that was killed; the resumed run writes its content again."""


def _ended_after(run: Run, entry: Entry) -> bool:
    """Whether a later attempt, whose entries were sent first, has already ended the run."""
    return bool(run.info.end_time and run.info.end_time > entry["time"])
