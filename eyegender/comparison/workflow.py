"""Loads runs, compares them, and leaves the page in a folder and on a run of its own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.comparison.comparison import Comparison, compare
from eyegender.comparison.page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE, write_comparison
from eyegender.comparison.workflow import pictures_of
from eyegender.comparison.selection import choose_runs
from eyegender.tracking.experiment_view import TAGS
from eyegender.tracking.run_artifacts import read_config
from eyegender.comparison.run_record import load_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eyegender.comparison.figures import Pictures
    from eyegender.comparison.run_record import RunRecord
    from eyegender.core.options import CompareOptions
    from eyegender.tracking.tracking_store import TrackingStore

KIND_TAG = "eyegender.kind"


@dataclass(frozen=True)
class Compared:
    """What a comparison left.

    Args:
        comparison: everything that the page says.
        folder: holds comparison.html, comparison.md and figures/.
        run_id: of the comparison's own run, which holds the same files.
        experiment_id: of that run.
    """

    comparison: Comparison
    folder: Path
    run_id: str
    experiment_id: str


def compare_runs(store: TrackingStore, options: CompareOptions, folder: Path) -> Compared:
    """Compare the runs that the options choose.

    Raises:
        UserError: no run can be compared.
    """
    chosen = choose_runs(store, options)
    records = [load_record(store, one, options.by, latency=options.latency) for one in chosen]
    tables = [record.predictions for record in records if record.predictions is not None]
    classes = _classes(store, records)
    comparison = compare(records, classes=classes) if tables else compare(records)
    folder.mkdir(parents=True, exist_ok=True)
    created = f"Written {time.strftime('%Y-%m-%d %H:%M')} from {store.name}."
    write_comparison(comparison, folder, pictures=_pictures(store, comparison), created=created)
    experiment_id = chosen[0].run.info.experiment_id
    run_id = _log(store, experiment_id, comparison, folder, options.tracking.run_name)
    return Compared(comparison, folder, run_id, experiment_id)


def _classes(store: TrackingStore, records: Sequence[RunRecord]) -> tuple[str, str]:
    """The class names that the runs' data sets tell; only the labels where they disagree; CelebA's two if none does."""
    told = set()
    for record in records:
        inputs = store.run(record.run_id).inputs
        for entry in inputs.dataset_inputs if inputs else ():
            try:
                names = json.loads(entry.dataset.profile or "{}").get("classes")
            except ValueError:
                continue
            if isinstance(names, list) and len(names) == 2:
                told.add((str(names[0]), str(names[1])))
    if len(told) > 1:
        return "label 0", "label 1"
    return told.pop() if told else ("female", "male")


def _pictures(store: TrackingStore, comparison: Comparison) -> Pictures | None:
    """Of the largest group: that is the one whose disagreements are shown."""
    leader = comparison.rows[comparison.groups[0].numbers[0] - 1]
    if len(comparison.groups[0].numbers) < 2:
        return None
    cfg = read_config(store, leader.record.run_id)
    return None if cfg is None else pictures_of(cfg, leader.predictions)


def _log(store: TrackingStore, experiment_id: str, comparison: Comparison, folder: Path, name: str | None) -> str:
    client = store.client
    count = len(comparison.rows)
    tags = {
        KIND_TAG: "comparison",
        "compared.runs": " ".join(row.record.run_id for row in comparison.rows),
        # MLflow shows this text on the run's page.
        "mlflow.note.content": "\n\n".join([*comparison.headlines, *comparison.warnings]),
    }
    run_id: str = client.create_run(
        experiment_id, tags=tags, run_name=name or f"comparison of {count} runs"
    ).info.run_id
    client.log_artifact(run_id, str(folder / PAGE_FILE))
    client.log_artifact(run_id, str(folder / MARKDOWN_FILE))
    client.log_artifacts(run_id, str(folder / FIGURES_FOLDER), FIGURES_FOLDER)
    client.set_terminated(run_id)
    for tag, value in TAGS.items():
        client.set_experiment_tag(experiment_id, tag, value)
    return run_id
