"""Descriptions of runs in Markdown, which MLflow shows at the top of a run's page."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from eyegender.core.eye_study import counted_units
from eyegender.models.intervals import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from eyegender.tracking.predictions import Predictions

NOTE = "mlflow.note.content"
DIGEST = "eyegender.note"  # of the description that eyegender wrote; another one is the user's, and stays
LONGEST = 5000  # characters, as MLflow's limit on a tag of older servers
# In a text, the addresses on MLflow's pages, which are known only when the store is reached.
RUNS, RUN, MODEL = "{runs}", "{run}", "{model}"
COMPARED = "Compared in "


def accuracy_text(predictions: Predictions, classes: Sequence[str]) -> str:
    """The accuracy with its 95% interval, over persons or image groups if they are known."""
    found = bootstrap_interval("accuracy", predictions.labels, predictions.probabilities, predictions.persons)
    return (
        f"**{100 * found.value:.1f}%** (95% interval {100 * found.low:.1f} to {100 * found.high:.1f}%) on "
        f"{len(predictions):,} images{counted_units(predictions.persons, classes)}"
    )


def artifact_links(paths: Sequence[str]) -> str:
    """Links to artifacts of the run, each named after its file."""
    names = [path.rpartition("/")[2].partition(".")[0].replace("_", " ") for path in paths]
    return " · ".join(link(name, f"{RUN}/artifacts/{path}") for name, path in zip(names, paths, strict=True))


def link(text: str, address: str) -> str:
    """A link whose text may contain brackets."""
    escaped = re.sub(r"([\\\[\]])", r"\\\1", text)
    return f"[{escaped}]({address})"


def with_links(client: MlflowClient, run_id: str, text: str) -> str:
    """The text with the addresses of the run, its model and its study; without the lines whose target is not there."""
    run = client.get_run(run_id)
    runs = runs_address(run)
    lines = text.split("\n")
    if MODEL in text:
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        ready = [model.model_id for model in models if str(model.status) == "READY"]
        address = f"{runs.removesuffix('runs')}models/{ready[0]}" if ready else ""
        lines = [line.replace(MODEL, address) for line in lines if ready or MODEL not in line]
    if (parent := run.data.tags.get("mlflow.parentRunId")) and (study := run.data.tags.get("study.name")):
        lines += ["", f"Trial {run.data.tags.get('trial.number', '')} of the study {link(study, f'{runs}/{parent}')}."]
    return "\n".join(lines).replace(RUNS, runs).replace(RUN, f"{runs}/{run_id}")


def runs_address(run: Run) -> str:
    """The address of the runs of an experiment within MLflow's pages."""
    return f"#/experiments/{run.info.experiment_id}/runs"


def write_note(client: MlflowClient, run_id: str, text: str) -> bool:
    """Describe a run; a description that somebody has edited stays. Returns whether it is described so now."""
    from mlflow.entities import RunTag

    tags = client.get_run(run_id).data.tags
    before = tags.get(NOTE, "")
    if before and _digest(before) != tags.get(DIGEST):
        return False
    text = text.strip()[:LONGEST]
    if text != before:
        client.log_batch(run_id, tags=[RunTag(NOTE, text), RunTag(DIGEST, _digest(text))])
    return True


def note_comparison(client: MlflowClient, run_ids: Sequence[str], comparison: Run) -> None:
    """Link the latest comparison from the descriptions of the compared runs, where eyegender has written them."""
    address = f"{runs_address(comparison)}/{comparison.info.run_id}"
    line = f"{COMPARED}{link(comparison.info.run_name, address)}."
    for run_id in run_ids:
        note = client.get_run(run_id).data.tags.get(NOTE, "")
        if note:
            parts = [part for part in note.split("\n\n") if not part.startswith(COMPARED)]
            write_note(client, run_id, "\n\n".join([*parts, line]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
