"""Tracks a run. Every method returns at once, even if the tracking store is slow or unreachable."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError, disk_full_error, is_disk_full
from eyegender.core.secrets import redact_config, redact_urls
from eyegender.tracking.journal import Entry, Journal
from eyegender.tracking.sender import Sender
from eyegender.tracking.system_metrics import SystemMetrics
from eyegender.tracking.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from eyegender.tracking.location import Location


LAST_EPOCH = "tracking.epoch"
LONGEST_WAIT = 300  # seconds that system metrics wait for the first epoch


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Tracker:
    """Writes everything about a run into its journal, from which a thread sends it to the store.

    Args:
        location: tracking store.
        folder: output folder of the run; paths of artifacts are relative to it.
        experiment: name of the MLflow experiment; created if it does not exist.
        name: name of the run.
        tags: first tags.
        resume: key and, if known, id of the run to continue; None begins a new run.
        began_in: folder in which the continued run began; None for this folder.
    """

    def __init__(
        self,
        location: Location,
        folder: Path,
        *,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        resume: tuple[str, str | None] | None = None,
        began_in: Path | None = None,
    ) -> None:
        self.location, self.folder, self.name = location, folder, name
        self.key, run_id = resume or (uuid.uuid4().hex, None)
        self.began_in = folder if began_in is None else began_in
        if resume is None:
            (folder / LAST_EPOCH).unlink(missing_ok=True)  # from another run in this folder
        self.journal = Journal(folder)
        self.writer = RunWriter(location.uri, location.artifacts, folder, is_new=resume is None)
        self.sender = Sender(self.journal, self.writer)
        self._system: SystemMetrics | None = None
        self._waiting: list[Entry] = []  # system metrics: MLflow's comparison begins with what was logged first
        self._has_epoch = False
        self._lock = threading.Lock()
        self._append(
            op="run", key=self.key, run_id=run_id, experiment=experiment, name=redact_urls(name), tags=_tags(tags),
            uri=redact_urls(location.uri), artifacts=location.artifacts, **_relative_database(location, folder),
        )  # fmt: skip
        self.sender.start()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until the store has been reached."""
        return self.writer.run_id

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None until the store has been reached."""
        return self.writer.experiment_id

    def log_params(self, values: Mapping[str, str], *, unless_there: bool = False) -> None:
        """Log parameters, which cannot change later. `unless_there` skips them if a resumed run has them already."""
        self._append(op="params", values=redact_config(values), **({"unless_there": True} if unless_there else {}))

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log finite metrics after `step` finished epochs; JSON and SQL treat NaN and infinity differently."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._append(op="metrics", values=finite, step=step)
        self._has_epoch = True
        if step > last_epoch(self.began_in):
            with contextlib.suppress(OSError):
                (self.began_in / LAST_EPOCH).write_text(str(step))

    def log_values(self, values: Mapping[str, float]) -> None:
        """Log finite metrics that a run has one value of; another value replaces it.

        At step 0, MLflow draws a bar; at any other, it would draw a curve of one point.
        """
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._append(op="metrics", values=finite, step=0, replaces=True)

    def set_tags(self, values: Mapping[str, str]) -> None:
        if values:
            self._append(op="tags", values=_tags(values))

    def log_dataset(self, *, name: str, digest: str, source: str, profile: str) -> None:
        self._append(op="dataset", name=name, digest=digest, source=redact_urls(source), profile=profile)

    def log_artifact(self, path: str, to: str | None = None) -> None:
        """Upload a file of the output folder into the artifact folder `to`."""
        self._append(op="artifact", path=path, to=to)

    def log_model(self, path: str, **facts: object) -> None:
        """Log the model in the folder `path` of the output folder, in the layout of `model_logging.log_model`."""
        self._append(op="model", path=path, **facts)

    def log_note(self, text: str) -> None:
        """Describe the run in Markdown, see `notes`; a description that somebody has edited stays."""
        self._append(op="note", text=redact_urls(text))

    def measure_system(self, interval: float, gpu_usage: Callable[[], Mapping[str, float]]) -> None:
        """Measure processor, memory and GPU until the run ends, every `interval` seconds; 0 measures nothing."""
        if interval > 0:
            self._system = SystemMetrics(self._log_system, interval, gpu_usage)
            self._system.start()

    def _log_system(self, values: Mapping[str, float]) -> None:
        time_ms = now_ms()
        # Seconds as steps, because a resumed run measures anew.
        entry: Entry = {"op": "metrics", "values": dict(values), "step": time_ms // 1000, "time": time_ms}
        with self._lock:
            self._waiting.append(entry)
            first = self._waiting[0]["time"]
        if self._has_epoch or time_ms - first > 1000 * LONGEST_WAIT:
            self._send_system()

    def _send_system(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for entry in waiting:
                self.journal.append(entry)
        self.sender.wake()

    def _stop_measuring(self) -> None:
        if self._system is not None:
            self._system.stop()
            with contextlib.suppress(UserError):  # a full disk, which was reported before
                self._send_system()

    def close(self, status: str, seconds: float) -> bool:
        """End the run as FINISHED, FAILED or KILLED; True if the store contains everything after at most `seconds`."""
        self._stop_measuring()
        end: Entry = {"op": "end", "status": status, "time": now_ms()}
        try:
            self.journal.append(end)
        except UserError:  # a full disk, which was reported before; the end can still be sent
            self.sender.last = end
        complete = self.sender.close(seconds)
        self.journal.close()
        return complete

    def disk_full_error(self) -> UserError | None:
        """After `close`: the error if the disk of a local store is full; otherwise None."""
        database = self.location.database
        if database is None or not is_disk_full(self.sender.problem):
            return None
        again = f", then send the rest with eyegender sync folder={self.folder}"
        return disk_full_error("metrics and artifacts of the run", database.parent, self.journal.unsent_bytes(), again)

    def abandon(self) -> None:
        """Stop tracking, because another process continues the run."""
        self._stop_measuring()
        self.sender.close(0)
        self.journal.close()

    def _append(self, **entry: object) -> None:
        self.journal.append({**entry, "time": now_ms()})
        self.sender.wake()


def last_epoch(began_in: Path) -> int:
    """The last epoch that was tracked of the run that began in this folder, in whichever folder it continued."""
    try:
        return int((began_in / LAST_EPOCH).read_text())
    except (OSError, ValueError):
        return 0


def _relative_database(location: Location, folder: Path) -> dict[str, str]:
    """The path of a local store relative to the run, so that both can be moved together."""
    database = location.database
    return {} if database is None else {"database": os.path.relpath(database, folder)}


# Our identifiers and paths. They are not searched for secrets, because a password may be an ordinary word.
_IDENTIFIERS = {
    "data.fingerprint", "data.source", "output_dir", "split.fingerprint", "split.kind", "study.name", "trial.number",
    "weights.kind", "weights.sha256", "weights.source",
}  # fmt: skip


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    """Tags without secrets; MLflow's own tags (such as `mlflow.parentRunId`) and identifiers are not changed."""
    return {
        name: redact_urls(value) if name.startswith("mlflow.") or name in _IDENTIFIERS else redact_config(value, name)
        for name, value in values.items()
    }
