"""The steps of `eyegender.compare`: select and load runs, compare them, write the page, log it and print a summary."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from eyegender.comparison.compared import TITLES
from eyegender.comparison.comparison import Comparison, compare
from eyegender.comparison.page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE, write_comparison
from eyegender.comparison.run_record import load_record, with_predictions
from eyegender.comparison.selection import select_runs, was_tested
from eyegender.comparison.tables import UNKNOWN, configs_table
from eyegender.core.errors import UserError
from eyegender.data.decode import to_pixels
from eyegender.data.readers import UnreadableImageError, build_reader
from eyegender.tracking.errors import first_line
from eyegender.tracking.experiment_view import TAGS
from eyegender.tracking.notes import NOTE, note_comparison
from eyegender.tracking.run_artifacts import read_config
from eyegender.training import environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from eyegender.comparison.compared import Part
    from eyegender.comparison.figures import LoadImages
    from eyegender.comparison.run_record import RunRecord
    from eyegender.comparison.selection import SelectedRun
    from eyegender.core.options import CompareOptions
    from eyegender.data.readers import Samples
    from eyegender.tracking.predictions import Predictions
    from eyegender.tracking.stored_config import StoredConfig
    from eyegender.tracking.tracking_store import TrackingStore

KIND_TAG = "eyegender.kind"
_IMAGE_SIZE = 96  # pixels, on the sheet of disagreements
_PRINTED_PAIRS, _PRINTED_RUNS = 5, 20
_MOST_LINKED = 20  # compared runs whose descriptions link the comparison; each costs requests

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparisonResult:
    """The result of a comparison command.

    Args:
        comparison: content of the page.
        folder: folder that contains comparison.html, comparison.md and figures/.
        run_id: id of the MLflow run that contains the same files.
    """

    comparison: Comparison
    folder: Path
    run_id: str


def compare_runs(store: TrackingStore, options: CompareOptions, folder: Path) -> ComparisonResult:
    """Compare the runs that the options select, write the page into `folder`, and log it to MLflow.

    Raises:
        UserError: no run can be compared.
    """
    selection = select_runs(store, options)
    part, records = load_records(store, selection.runs, options)
    comparison = compare(records, classes=_classes_to_show(records), part=part, left_out=selection.omitted)
    folder.mkdir(parents=True, exist_ok=True)
    # Not where this machine keeps it, because the page may be sent to somebody.
    database = store.location.database
    source = store.name if database is None else f"{database.parent.name}/{database.name}"
    created = f"Written {time.strftime('%Y-%m-%d %H:%M')} from {source}."
    write_comparison(comparison, folder, load_images=_images_of_largest_group(store, comparison), created=created)
    experiment_id = selection.runs[0].run.info.experiment_id
    run_id = _log(store, experiment_id, comparison, folder, options.tracking.run_name)
    return ComparisonResult(comparison, folder, run_id)


def load_records(
    store: TrackingStore, selected: Sequence[SelectedRun], options: CompareOptions
) -> tuple[Part, list[RunRecord]]:
    """Load all runs with their predictions for the test images, or all with those for the validation images.

    The test images are used if all runs were tested. If some were not, the validation images are used if more runs have
    predictions for them. The best run of each backbone is an exception: what was asked for is a comparison on the test
    images, so these are used if any of the runs was tested. The two are never mixed, because they do not measure the
    same thing.
    """

    n_tested = sum(was_tested(one.run) for one in selected)
    one_of_each = options.runs is None and options.pick == "best"
    wanted = options.split or ("test" if n_tested == len(selected) or (n_tested and one_of_each) else None)
    first: Part = wanted or "val"
    records = [load_record(store, one, options.by, part=first, latency=options.latency) for one in selected]
    n_validated = sum(record.predictions is not None for record in records)
    if wanted is not None or n_validated > n_tested:
        return first, records
    tested = [with_predictions(store, one, record, "test") for one, record in zip(selected, records, strict=True)]
    n_tested = sum(record.predictions is not None for record in tested)
    return ("val", records) if n_validated > n_tested else ("test", tested)


def show_comparison(result: ComparisonResult, console: Console) -> None:
    """Print the runs, the headlines, and the path of the page."""
    comparison = result.comparison
    console.print(_console_table(comparison))
    lines = [*comparison.headlines, *comparison.warnings]
    lines += [f"  {pair.sentence}" for pair in comparison.pairs[:_PRINTED_PAIRS]]
    if (more := len(comparison.runs) - _PRINTED_RUNS) > 0:
        lines.append(f"The page shows {more:,} more runs.")
    lines += [f"Left out: {line}" for line in comparison.left_out[:_PRINTED_RUNS]]
    for line in lines:
        console.print(line, markup=False, highlight=False)
    page = result.folder / PAGE_FILE
    for line in (f"Page     {page}", f"Run      {result.run_id} contains the same page"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _console_table(comparison: Comparison) -> Table:
    """A table that fits into 80 columns; columns that would say the same of every run are left out."""
    title = f"{TITLES[comparison.part].capitalize()} set, 95% intervals"
    table = Table("#", "run", title=title, title_justify="left", box=SIMPLE)
    configs = configs_table(comparison)
    parameters, latency = configs.columns.index("parameters"), configs.columns.index("latency")
    several = len(comparison.groups) > 1
    timed = any(config[latency].text != UNKNOWN for config in configs.rows)
    names = ["id", *(["group"] if several else []), "accuracy", "AUROC", "params", *(["latency"] if timed else [])]
    for name in names:
        table.add_column(name, justify="left" if name in ("id", "group") else "right", no_wrap=True)
    for run, config in list(zip(comparison.runs, configs.rows, strict=True))[:_PRINTED_RUNS]:
        accuracy, auroc = run.metrics["accuracy"], run.metrics["auroc"]
        cells = {
            "id": run.record.run_id[:8],
            "group": run.group,
            "accuracy": f"{100 * accuracy.value:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})%",
            "AUROC": f"{auroc.value:.3f}",
            "params": config[parameters].text,
            "latency": config[latency].text,
        }
        style = "bold" if run.leads else ""
        # The name may contain brackets, which are no markup.
        table.add_row(str(run.number), Text(run.short_name), *(cells[name] for name in names), style=style)
    return table


def _classes_to_show(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The classes of the runs with two; label numbers if they differ, CelebA's classes if none are known.

    The predictions of runs with more classes name them.
    """
    pairs = {record.classes for record in records if len(record.classes) == 2}
    if len(pairs) > 1:
        return "label 0", "label 1"
    return pairs.pop() if pairs else ("female", "male")


def _images_of_largest_group(store: TrackingStore, comparison: Comparison) -> LoadImages | None:
    """Loads the images of the largest group for the sheet of disagreements; None if the group has a single run."""
    numbers = comparison.groups[0].numbers
    if len(numbers) < 2:
        return None
    leader = comparison.runs[numbers[0] - 1]
    config = read_config(store, leader.record.run_id)
    return None if config is None else tested_images(config, leader.predictions)


def tested_images(config: StoredConfig, predictions: Predictions) -> LoadImages | None:
    """Loads images by name; None if this machine no longer has all images on which the run was measured.

    Args:
        config: config of the run.
        predictions: predictions of the run; the names and the content hashes of the images must still be the same.
    """
    try:
        samples = build_reader(config.offline_data()).read()
    except UserError as error:
        log.warning("without the images on which models disagree: %s", error)
        return None
    position = {name: i for i, name in enumerate(samples.names)}
    tested = zip(predictions.names, predictions.keys, strict=True)
    if not all(name in position and samples.digests[position[name]] == key for name, key in tested):
        log.warning("without the images on which models disagree: they have changed since")
        return None
    return lambda names: np.stack([_pixels(samples, position[name]) for name in names])


def _pixels(samples: Samples, i: int) -> NDArray[np.uint8]:
    try:
        return to_pixels(samples.open(i), _IMAGE_SIZE, "gray")
    except UnreadableImageError:
        return np.full((1, _IMAGE_SIZE, _IMAGE_SIZE), 128, np.uint8)


def _log(store: TrackingStore, experiment_id: str, comparison: Comparison, folder: Path, name: str | None) -> str:
    """Log the page, the Markdown and the figures as a run; returns its id."""
    client = store.client
    tags = {
        KIND_TAG: "comparison",
        "compared.runs": " ".join(run.record.run_id for run in comparison.runs),
        # MLflow shows this text on the run's page.
        NOTE: "\n\n".join([*comparison.headlines, *comparison.warnings]),
        **environment.commit(),
        **environment.mlflow_tags(),
    }
    run_name = name or f"comparison of {len(comparison.runs)} runs"
    run_id: str = client.create_run(experiment_id, tags=tags, run_name=run_name).info.run_id
    client.log_artifact(run_id, str(folder / PAGE_FILE))
    client.log_artifact(run_id, str(folder / MARKDOWN_FILE))
    client.log_artifacts(run_id, str(folder / FIGURES_FOLDER), FIGURES_FOLDER)
    client.set_terminated(run_id)
    try:
        linked = [run.record.run_id for run in comparison.runs[:_MOST_LINKED]]
        note_comparison(client, linked, client.get_run(run_id))
    except Exception as error:  # the comparison itself is complete
        log.warning("the compared runs do not link the comparison (%s)", first_line(error))
    for tag, value in TAGS.items():
        client.set_experiment_tag(experiment_id, tag, value)
    return run_id
