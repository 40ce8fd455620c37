"""Reads the files that a run stored in MLflow: plain JSON and YAML, and the saved network. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_urls
from eyegender.tracking.errors import first_line
from eyegender.tracking.model_logging import NETWORK
from eyegender.tracking.predictions import PREDICTIONS_FILE, VAL_PREDICTIONS_FILE, Predictions
from eyegender.tracking.stored_config import parse_config
from eyegender.tracking.writer import RUN_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import LoggedModel, Run

    from eyegender.tracking.stored_config import StoredConfig
    from eyegender.tracking.tracking_store import TrackingStore

CONFIG_FILE = "config.yaml"
BEST_CHECKPOINT = "checkpoints/best.ckpt"  # inside a run's output folder

log = logging.getLogger(__name__)


def read_text(store: TrackingStore, run: Run | str, path: str) -> str | None:
    """The text of one artifact of a run; None if the run has no such artifact, or it is not UTF-8.

    Args:
        store: the store that holds the run.
        run: the run or its id; with an id, MLflow has to look up where its artifacts are.
        path: path of the artifact.

    Raises:
        UserError: the artifact exists, or may exist, and cannot be read.
    """
    run_id = run if isinstance(run, str) else run.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        try:
            if isinstance(run, str):
                return Path(store.client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
            return Path(_download(f"{run.info.artifact_uri.rstrip('/')}/{path}", folder, store)).read_text("utf-8")
        except UnicodeDecodeError:
            return None
        except Exception as error:  # the type depends on where the artifacts are stored
            try:
                names = [item.path for item in store.client.list_artifacts(run_id)]
            except Exception as listing_error:
                raise store.unreadable(f"the artifacts of run {run_id}", listing_error) from listing_error
            if path in names:
                raise store.unreadable(f"{path} of run {run_id}", error) from error
            return None


def artifact_names(store: TrackingStore, run_id: str, folder: str) -> list[str]:
    """The paths of the artifacts in a folder of a run."""
    try:
        return [item.path for item in store.client.list_artifacts(run_id, folder)]
    except Exception as error:  # the type depends on where the artifacts are stored
        raise store.unreadable(f"the artifacts of run {run_id}", error) from error


def read_predictions(store: TrackingStore, run: Run | str) -> Predictions | None:
    """The predictions of a run, or of one with this id, for the test images; None if there are none to be read."""
    return _parsed(read_text(store, run, PREDICTIONS_FILE), run, "test")


def read_validation(store: TrackingStore, run: Run) -> Predictions | None:
    """The run's predictions for the validation images at its best epoch; None if there are none that can be read.

    Runs of earlier versions kept them only in their output folder.
    """
    text = read_text(store, run, VAL_PREDICTIONS_FILE)
    if text is None and (folder := output_folder(run)) is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (folder / VAL_PREDICTIONS_FILE).read_text(encoding="utf-8")
    return _parsed(text, run, "validation")


def _parsed(text: str | None, run: Run | str, part: str) -> Predictions | None:
    if text is None:
        return None
    try:
        table = json.loads(text)
        columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
        return Predictions.from_columns(columns)
    except (ValueError, TypeError, KeyError) as error:
        run_id = run if isinstance(run, str) else run.info.run_id
        log.warning("run %s: its table of %s predictions cannot be read (%s)", run_id, part, error)
        return None


def lost_predictions(run: Run) -> str | None:
    """For a run that was tested but has no readable predictions: where they should be. None if it was not tested."""
    if "test/accuracy" not in run.data.metrics:
        return None
    return f"was tested, but {PREDICTIONS_FILE} cannot be read in {redact_urls(run.info.artifact_uri)}"


def read_config(store: TrackingStore, run: Run | str) -> StoredConfig | None:
    """The config that a run, or the one with this id, stored; None if it is missing or unreadable."""
    text = read_text(store, run, CONFIG_FILE)
    return None if text is None else parse_config(text)


def logged_classes(run: Run) -> tuple[str, ...]:
    """The class names in label order, as the run logged them; empty if it did not."""
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        try:
            names = json.loads(entry.dataset.profile or "{}").get("classes")
        except ValueError:
            continue
        if isinstance(names, list) and len(names) > 1:
            return tuple(map(str, names))
    return ()


def logged_model(store: TrackingStore, run_id: str) -> LoggedModel | None:
    """The model that the run logged; None if it has logged none yet."""
    experiment = store.run(run_id).info.experiment_id
    models = store.client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    # The status is not part of the query: the SQL store keeps it as a number and finds nothing by its name.
    ready = [model for model in models if model.status == "READY"]
    return ready[0] if ready else None


def output_folder(run: Run) -> Path | None:
    """The output folder that the run names, if this machine has it and it still belongs to the run; else None."""
    folder = Path(run.data.tags.get("output_dir", ""))
    try:
        owner = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if owner == run.info.run_id else None


def trial_folder(run: Run) -> Path | None:
    """The output folder of a finished trial of a sweep, if this machine has it with its best checkpoint; else None.

    Trials log no model while the sweep runs.
    """
    tags = run.data.tags
    if run.info.status != "FINISHED" or "trial.number" not in tags or tags.get("pruned") == "true":
        return None
    folder = output_folder(run)
    return folder if folder is not None and (folder / BEST_CHECKPOINT).is_file() else None


def _download(uri: str, folder: str, store: TrackingStore) -> str:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts

    local: str = download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=store.location.uri)
    return local


def no_model(store: TrackingStore, run: Run) -> UserError:
    """The error for a run without a logged model and, if it is a trial, without its checkpoint."""
    where = f"run {run.info.run_id} in {store.name} logged no model"
    folder = run.data.tags.get("output_dir")
    if "trial.number" in run.data.tags and folder is not None:
        return UserError(
            f"{where}, and this machine has no {BEST_CHECKPOINT} of it in {folder}; run the command where that folder "
            "is, or put it back"
        )
    return UserError(f"{where}; train it to its end, or give a checkpoint or another run")


def network_files(store: TrackingStore, model: LoggedModel) -> dict[str, int]:
    """Size in bytes of each file of the saved network, by name; empty if eyegender did not log the model."""
    files = store.client.list_logged_model_artifacts(model.model_id, NETWORK)
    return {Path(item.path).name: int(item.file_size or 0) for item in files}


@contextmanager
def downloaded(store: TrackingStore, model: LoggedModel, path: str = NETWORK) -> Iterator[Path]:
    """A local copy of a file or folder of the logged model, deleted at the end of the context.

    Raises:
        UserError: the store has no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = _download(f"{model.artifact_location.rstrip('/')}/{path}", folder, store)
        except Exception as error:  # the type depends on where the artifacts are stored
            raise UserError(
                f"model {model.model_id} has no readable {path} in {redact_urls(model.artifact_location)} "
                f"({first_line(error)}); put its files back there, or give a model that eyegender.train logged"
            ) from error
        yield Path(local)
