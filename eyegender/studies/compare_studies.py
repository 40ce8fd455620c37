"""`eyegender compare study=[A,B]`: studies side by side on one page."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.comparison.page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE
from eyegender.comparison.workflow import KIND_TAG
from eyegender.core.errors import UserError
from eyegender.core.output_folder import remove_old
from eyegender.studies.reports.drawn_trials import address_of, metric_names
from eyegender.studies.reports.markdown import page_markdown
from eyegender.studies.reports.page import write_page
from eyegender.studies.reports.side_by_side import (
    TEST,
    VALIDATION,
    check_comparable,
    seed_groups,
    stored_predictions,
    study_curve,
    winner_tests,
)
from eyegender.studies.reports.studies_page import studies_page
from eyegender.studies.winner import trial_folder
from eyegender.tracking.errors import first_line
from eyegender.tracking.notes import NOTE
from eyegender.tracking.run_artifacts import read_predictions, read_validation
from eyegender.tracking.tracking_store import TrackingStore, open_store
from eyegender.training import environment
from hydra_plugins.optuna_study import load_study, study_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from eyegender.core.options import CompareOptions
    from eyegender.studies.reports.page import Page
    from eyegender.tracking.predictions import Predictions
    from hydra_plugins.optuna_study import TrialRow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudiesResult:
    """The result of a comparison of studies.

    Args:
        page: content of the page.
        folder: folder that contains comparison.html, comparison.md and figures/.
        run_id: id of the MLflow run that contains the same files; None if the store could not be reached.
    """

    page: Page
    folder: Path
    run_id: str | None

    def show(self, console: Console) -> None:
        """Print what was found, and the path of the page."""
        for line in (*self.page.answer, *self.page.warnings):
            console.print(line, markup=False, highlight=False)
        console.print(f"Page     {self.folder / PAGE_FILE}", markup=False, highlight=False, soft_wrap=True)
        if self.run_id is not None:
            console.print(f"Run      {self.run_id} contains the same page", markup=False, highlight=False)


def compare_studies(options: CompareOptions, names: Sequence[str], folder: Path) -> StudiesResult:
    """Compare studies, write the page into `folder`, and log it to MLflow if its store can be reached.

    Args:
        options: options of the command.
        names: names of the studies, two or more.
        folder: folder for the page.

    Raises:
        UserError: the studies have different objectives, or fewer than two have a complete trial.
        StudyError: there is no such study.
    """
    import optuna

    if options.runs is not None:
        raise UserError("runs and study cannot both be given; remove one")
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise UserError(f"study must name different studies, got {names[0]!r} twice; name another one")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    statuses = [study_status(options.storage, name) for name in names]
    studies = [load_study(options.storage, name) for name in names]
    metrics = [metric_names(study, status)[0] for study, status in zip(studies, statuses, strict=True)]
    check_comparable(statuses, metrics)
    store = _store(options)
    curves, warnings = [], []
    for study, status in zip(studies, statuses, strict=True):
        curve = study_curve(study, status, partial(_predictions, study=status.name, store=store))
        if curve.values:
            curves.append(curve)
        else:
            warnings.append(f"Study {status.name} is left out: none of its trials is complete.")
    if len(curves) < 2:
        raise UserError(
            f"study must name two studies with complete trials, got {len(curves)} of {len(names)}; "
            "wait for their trials",
            details=tuple(warnings),
        )
    groups = seed_groups(curves)
    parts = {"test": (TEST,), "val": (VALIDATION,), None: (TEST, VALIDATION)}[options.split]
    tests, impossible = winner_tests(groups, parts)
    page = studies_page(groups, tests, impossible, warnings)
    folder.mkdir(parents=True, exist_ok=True)
    remove_old(folder, FIGURES_FOLDER)
    figures = write_page(page, folder / PAGE_FILE, folder / FIGURES_FOLDER)
    (folder / MARKDOWN_FILE).write_text(page_markdown(page, figures, FIGURES_FOLDER), encoding="utf-8")
    return StudiesResult(page, folder, _log(store, options, page, folder))


def _store(options: CompareOptions) -> TrackingStore | None:
    try:
        return open_store(options.tracking)
    except UserError as error:
        log.warning("without MLflow: %s", error)
        return None


def _predictions(row: TrialRow, *, study: str, store: TrackingStore | None) -> dict[str, Predictions]:
    """What a trial predicted, from its folder or, on another machine, from its MLflow run."""
    found = stored_predictions(trial_folder(row, Path("multirun") / study))
    run_id = address_of(row.user_attrs).rpartition("/runs/")[2]
    if run_id and store is not None:
        try:
            if TEST not in found and (tested := read_predictions(store, run_id)) is not None:
                found[TEST] = tested
            if VALIDATION not in found and (validated := read_validation(store, store.run(run_id))) is not None:
                found[VALIDATION] = validated
        except Exception as error:  # of a database driver or an HTTP library
            log.warning("run %s: its predictions cannot be read (%s)", run_id, first_line(error))
    return found


def _log(store: TrackingStore | None, options: CompareOptions, page: Page, folder: Path) -> str | None:
    """Log the page as a run; returns its id, or None with a warning."""
    if store is None:
        return None
    try:
        experiment = store.experiment_id(options.tracking.experiment)
        tags = {
            KIND_TAG: "comparison of studies", NOTE: "\n\n".join(page.answer),
            **environment.commit(), **environment.mlflow_tags(),
        }  # fmt: skip
        name = options.tracking.run_name or page.title
        run_id: str = store.client.create_run(experiment, tags=tags, run_name=name).info.run_id
        for file in (PAGE_FILE, MARKDOWN_FILE):
            store.client.log_artifact(run_id, str(folder / file))
        store.client.log_artifacts(run_id, str(folder / FIGURES_FOLDER), FIGURES_FOLDER)
        store.client.set_terminated(run_id)
    except Exception as error:  # the page itself is complete
        log.warning("without MLflow: %s", first_line(error))
        return None
    return run_id
