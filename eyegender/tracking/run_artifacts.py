"""Reads what a run left in its store: plain JSON and YAML, never anything that could run code."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.comparison.run_record import Predictions
from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_urls
from eyegender.tracking.errors import first_line
from eyegender.tracking.stored_config import parse_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import LoggedModel, Run

    from eyegender.tracking.stored_config import StoredConfig
    from eyegender.tracking.tracking_store import TrackingStore

PREDICTIONS, CONFIG = "test_predictions.json", "config.yaml"
NETWORK = "artifacts/network"  # inside a logged model

log = logging.getLogger(__name__)


def read_text(store: TrackingStore, run_id: str, path: str) -> str | None:
    """The text of one artifact of a run; None where the run has none of that name.

    Raises:
        UserError: it is there, or may be there, and cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return None
        except Exception as error:  # of a file system, an object store or an HTTP library
            try:
                names = [item.path for item in store.client.list_artifacts(run_id)]
            except Exception as worse:
                raise store.unreadable(f"the artifacts of run {run_id}", worse) from worse
            if path in names:
                raise store.unreadable(f"{path} of run {run_id}", error) from error
            return None


def lost_predictions(run: Run) -> str | None:
    """Where a run's predictions should be, for one that was tested and has none that can be read; else None."""
    if "test/accuracy" not in run.data.metrics:
        return None
    return f"was tested, but {PREDICTIONS} cannot be read in {redact_urls(run.info.artifact_uri)}"


def read_predictions(store: TrackingStore, run_id: str) -> Predictions | None:
    """What the run said of each test picture; None where it stored nothing readable."""
    text = read_text(store, run_id, PREDICTIONS)
    if text is None:
        return None
    try:
        table = json.loads(text)
        columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
        return Predictions.from_table(columns)
    except (ValueError, TypeError, KeyError) as error:
        log.warning("run %s: its table of test predictions cannot be read (%s)", run_id, error)
        return None


def read_config(store: TrackingStore, run_id: str) -> StoredConfig | None:
    """What the run kept of its config; None where that is missing or unreadable."""
    text = read_text(store, run_id, CONFIG)
    return None if text is None else parse_config(text)


def logged_model(store: TrackingStore, run_id: str) -> LoggedModel | None:
    """The model that the run logged; None where it logged none (yet)."""
    experiment = store.run(run_id).info.experiment_id
    found = store.client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    # Not in the query: the SQL store keeps the status as a number and finds nothing by its name.
    ready = [model for model in found if model.status == "READY"]
    return ready[0] if ready else None


def network_files(store: TrackingStore, model: LoggedModel) -> dict[str, int]:
    """Sizes in bytes of the files of the saved network, by name; empty where it is no model of this program."""
    found = store.client.list_logged_model_artifacts(model.model_id, NETWORK)
    return {Path(item.path).name: int(item.file_size or 0) for item in found}


@contextmanager
def fetched(store: TrackingStore, model: LoggedModel, path: str = NETWORK) -> Iterator[Path]:
    """A file or folder of the logged model, on this machine while the context lasts.

    Raises:
        UserError: the store has no such file.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        try:
            uri = f"{model.artifact_location.rstrip('/')}/{path}"
            local = download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=store.location.uri)
        except Exception as error:  # of a file system, an object store or an HTTP library
            raise UserError(
                f"model {model.model_id} has no readable {path} in {redact_urls(model.artifact_location)} "
                f"({first_line(error)}); put its files back there, or give a model that eyegender.train logged"
            ) from error
        yield Path(local)
