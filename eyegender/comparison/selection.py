"""Selects the runs of a comparison: given runs, the trials of a study, or the runs of an experiment.

By default, it selects the best run of each backbone on each split. Runs with different splits are not ranked against
each other, because their validation metrics were measured on different images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.comparison.run_record import backbone_name
from eyegender.core.errors import UserError
from eyegender.tracking.names import metric_value
from eyegender.tracking.tracking_store import is_training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

    from eyegender.core.options import CompareOptions
    from eyegender.tracking.tracking_store import TrackingStore


@dataclass(frozen=True)
class SelectedRun:
    """A run, and from how many it was selected.

    Args:
        run: finished run that trained a network.
        trials: number of runs from which it was selected; None if it was requested explicitly.
    """

    run: Run
    trials: int | None = None


def select_runs(store: TrackingStore, options: CompareOptions) -> list[SelectedRun]:
    """The runs that the options ask for.

    Raises:
        UserError: there is no such run, study or experiment, or it has no finished run.
    """
    if options.runs is not None:
        if options.study is not None:
            raise UserError("runs and study cannot both be given; remove one")
        return [SelectedRun(_require_training(store.run(run_id))) for run_id in dict.fromkeys(options.runs)]
    if options.study is not None:
        source, candidates = f"study {options.study!r}", study_runs(store, options.study)
    else:
        source = f"experiment {options.tracking.experiment!r}"
        experiment_id = store.experiment_id(options.tracking.experiment)
        candidates = store.search([experiment_id], "attributes.status = 'FINISHED'")
    finished = [run for run in candidates if is_training(run) and run.info.status == "FINISHED"]
    if not finished:
        raise UserError(f"{source} in {store.name} has no finished training run; train first, or give runs=[ID,ID]")
    if options.pick == "all":
        return [SelectedRun(run) for run in finished]
    return best_of_each_backbone(finished, options.by, options.mode)


def study_runs(store: TrackingStore, study: str) -> list[Run]:
    """The runs that are tagged with the study's name, and their child runs."""
    if "'" in study or '"' in study:
        raise UserError(f"study must be a name without quotation marks, got {study!r}; correct study=")
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    tagged = store.search(experiments, f"tags.`study.name` = '{study}'")
    children = [
        child
        for parent in tagged
        if not is_training(parent)
        for child in store.search(experiments, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    ]
    runs = {run.info.run_id: run for run in [*tagged, *children]}
    if not runs:
        raise UserError(f"no run in {store.name} belongs to a study {study!r}; correct study=")
    return list(runs.values())


def was_tested(run: Run) -> bool:
    return "test/accuracy" in run.data.metrics


def best_of_each_backbone(runs: Sequence[Run], by: str, mode: str) -> list[SelectedRun]:
    """The best run of each backbone on each split, by a validation metric.

    If the best run was not tested, the best tested one is selected, too; the comparison then reports the former as left
    out.
    """
    candidates: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if not math.isnan(_score(run, by, mode)):
            candidates.setdefault((backbone_name(run.data.params), _split(run)), []).append(run)
    if not candidates:
        raise UserError(f"none of {len(runs)} runs logged best/{by}; set by= to a validation metric that they logged")
    selected = []
    for same_split in candidates.values():
        ranked = sorted(same_split, key=lambda run: -_score(run, by, mode))
        best_tested = [run for run in ranked if was_tested(run)][:1]
        unique = {run.info.run_id: run for run in [*ranked[:1], *best_tested]}
        selected += [SelectedRun(run, len(same_split)) for run in unique.values()]
    return selected


def _split(run: Run) -> str:
    """Equal for runs that were trained, validated and tested on the same images, whatever their config says.

    A run that did not log its split is not ranked against any other.
    """
    return run.data.tags.get("split.fingerprint") or run.info.run_id


def _score(run: Run, by: str, mode: str) -> float:
    """Greater is better; NaN if the run has no such metric."""
    value = metric_value(run.data.metrics, f"best/{by}")
    if value is None:
        return math.nan
    return value if mode == "max" else -value


def _require_training(run: Run) -> Run:
    if not is_training(run):
        raise UserError(f"run {run.info.run_id} trained no network; give runs that eyegender.train made")
    return run
