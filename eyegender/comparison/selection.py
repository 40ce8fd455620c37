"""Which runs a comparison shows: given ones, a study's trials, or an experiment's.

By default each backbone's best on each split: validation metrics on different pictures choose nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

    from eyegender.core.options import CompareOptions
    from eyegender.tracking.tracking_store import TrackingStore


@dataclass(frozen=True)
class Chosen:
    """A run with what must be told about how it was chosen.

    Args:
        run: finished, trained by this program.
        trials: how many runs it was picked from; None where it was asked for.
    """

    run: Run
    trials: int | None = None


def choose_runs(store: TrackingStore, options: CompareOptions) -> list[Chosen]:
    """The runs that the options ask for.

    Raises:
        UserError: there is no such run, study or experiment, or no finished run in it.
    """
    if options.runs is not None:
        if options.study is not None:
            raise UserError("runs and study cannot both be given; remove one")
        return [Chosen(_trained(store.run(run_id))) for run_id in dict.fromkeys(options.runs)]
    if options.study is not None:
        where, found = f"study {options.study!r}", study_runs(store, options.study)
    else:
        where = f"experiment {options.tracking.experiment!r}"
        found = store.search([store.experiment_id(options.tracking.experiment)], "attributes.status = 'FINISHED'")
    finished = [run for run in found if is_training(run) and run.info.status == "FINISHED"]
    if not finished:
        raise UserError(f"{where} in {store.name} has no finished training run; train first, or give runs=[ID,ID]")
    if options.pick == "all":
        return [Chosen(run) for run in finished]
    return best_of_each_backbone(finished, options.by, options.mode)


def study_runs(store: TrackingStore, study: str) -> list[Run]:
    """The runs that carry the study's name, and the children of those."""
    if "'" in study or '"' in study:
        raise UserError(f"study must be a name without quotation marks, got {study!r}; correct study=")
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    named = store.search(experiments, f"tags.`study.name` = '{study}'")
    children = [
        child
        for parent in named
        if not is_training(parent)
        for child in store.search(experiments, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    ]
    found = {run.info.run_id: run for run in [*named, *children]}
    if not found:
        raise UserError(f"no run in {store.name} belongs to a study {study!r}; correct study=")
    return list(found.values())


def is_training(run: Run) -> bool:
    """Whether the run trained a network; comparisons and studies keep runs of their own."""
    return "model.name" in run.data.params


def best_of_each_backbone(runs: Sequence[Run], by: str, mode: str) -> list[Chosen]:
    """Each backbone's best run on each split by a validation metric, and how many runs it was picked from.

    A best run that was not tested stands beside the best one that was: the comparison names and leaves out the former.
    """
    backbones: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if not math.isnan(_score(run, by, mode)):
            backbones.setdefault((run.data.params["model.name"], _split(run)), []).append(run)
    if not backbones:
        raise UserError(f"none of {len(runs)} runs logged best/{by}; set by= to a validation metric that they logged")
    chosen = []
    for members in backbones.values():
        ranked = sorted(members, key=lambda run: -_score(run, by, mode))
        tested = [run for run in ranked if was_tested(run)][:1]
        wanted = {run.info.run_id: run for run in [*ranked[:1], *tested]}
        chosen += [Chosen(run, len(members)) for run in wanted.values()]
    return chosen


def _split(run: Run) -> str:
    """Equal for runs that were trained, validated and tested on the same pictures, whatever their config says.

    A run that does not say which they were is ranked against no other.
    """
    return run.data.tags.get("split.fingerprint") or run.info.run_id


def was_tested(run: Run) -> bool:
    return "test/accuracy" in run.data.metrics


def _score(run: Run, by: str, mode: str) -> float:
    """Greater is better; NaN where the run has no such metric."""
    value = float(run.data.metrics.get(f"best/{by}", math.nan))
    return value if mode == "max" else -value


def _trained(run: Run) -> Run:
    if not is_training(run):
        raise UserError(f"run {run.info.run_id} trained no network; give runs that eyegender.train made")
    return run
