"""A run's voice: every method returns at once, whatever the tracking store is doing."""

from __future__ import annotations

import contextlib
import math
import os
import time
import uuid
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError, disk_full_error, is_disk_full
from eyegender.core.secrets import redact_config, redact_urls
from eyegender.tracking.journal import Entry, Journal
from eyegender.tracking.sender import Sender
from eyegender.tracking.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eyegender.tracking.location import Location


LAST_EPOCH = "tracking.epoch"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Tracker:
    """Journals what a run says and sends it from a thread.

    Args:
        location: the tracking store.
        folder: the run's output folder; artifacts are named relative to it.
        experiment: MLflow experiment, created when missing.
        name: the run's name.
        tags: first tags.
        resume: key and, where known, run id of the run to go on with.
        began_in: the folder in which that run began.
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
            (folder / LAST_EPOCH).unlink(missing_ok=True)  # of another run in this folder
        self.journal = Journal(folder)
        self.store = Store(location.uri, location.artifacts, folder)
        self.sender = Sender(self.journal, self.store)
        self._say(
            op="run", key=self.key, run_id=run_id, experiment=experiment, name=redact_urls(name), tags=_tags(tags),
            uri=redact_urls(location.uri), artifacts=location.artifacts, **_from_here(location, folder),
        )  # fmt: skip
        self.sender.start()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, once the store has been reached."""
        return self.store.run_id

    def params(self, values: Mapping[str, str], *, unless_there: bool = False) -> None:
        """Parameters cannot change; `unless_there` leaves a run alone that has some, one that goes on."""
        self._say(op="params", values=redact_config(values), **({"unless_there": True} if unless_there else {}))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """`step` counts finished epochs. Values that are not finite are left out: JSON and SQL disagree about them."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._say(op="metrics", values=finite, step=step)
        if step > last_epoch(self.began_in):
            with contextlib.suppress(OSError):
                (self.began_in / LAST_EPOCH).write_text(str(step))

    def tags(self, values: Mapping[str, str]) -> None:
        self._say(op="tags", values=_tags(values))

    def dataset(self, *, name: str, digest: str, source: str, profile: str) -> None:
        self._say(op="dataset", name=name, digest=digest, source=redact_urls(source), profile=profile)

    def artifact(self, path: str, to: str | None = None) -> None:
        """A file in the output folder, into the artifact folder `to`."""
        self._say(op="artifact", path=path, to=to)

    def model(self, path: str, **facts: object) -> None:
        """The model folder that `model_logging.save_model` wrote in the output folder."""
        self._say(op="model", path=path, **facts)

    def close(self, status: str, seconds: float) -> bool:
        """End the run as FINISHED, FAILED or KILLED; True when the store holds everything."""
        end: Entry = {"op": "end", "status": status, "time": now_ms()}
        try:
            self.journal.append(end)
        except UserError:  # a full disk, which has been told; the store may still hear of the end
            self.sender.last = end
        complete = self.sender.close(seconds)
        self.journal.close()
        return complete

    def no_room(self) -> UserError | None:
        """After `close`: what to say where the embedded store's disk cannot take the rest of the run, else None."""
        database = self.location.database
        if database is None or not is_disk_full(self.sender.problem):
            return None
        again = f", then send the rest with python -m eyegender.sync folder={self.folder}"
        return disk_full_error("metrics and artifacts of the run", database.parent, self.journal.unsent_bytes(), again)

    def abandon(self) -> None:
        """Say nothing more: another process goes on with this run."""
        self.sender.close(0)
        self.journal.close()

    def _say(self, **entry: object) -> None:
        self.journal.append({**entry, "time": now_ms()})
        self.sender.wake()


def last_epoch(began_in: Path) -> int:
    """How far the run that began in this folder has told its epochs, in whichever folder it went on."""
    try:
        return int((began_in / LAST_EPOCH).read_text())
    except (OSError, ValueError):
        return 0


def _from_here(location: Location, folder: Path) -> dict[str, str]:
    """Where an embedded store lies seen from the run, so that both may be moved together."""
    database = location.database
    return {} if database is None else {"database": os.path.relpath(database, folder)}


# Identifiers and paths of ours, which a password that is an ordinary word must not alter.
_IDENTIFIERS = {
    "data.fingerprint", "data.source", "output_dir", "split.fingerprint", "split.kind", "study.name", "trial.number",
    "weights.kind", "weights.sha256", "weights.source",
}  # fmt: skip


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    """Tags without secrets; MLflow's own (`mlflow.parentRunId` and the like) and identifiers stay as they are."""
    return {
        name: redact_urls(value) if name.startswith("mlflow.") or name in _IDENTIFIERS else redact_config(value, name)
        for name, value in values.items()
    }
