"""Selects the runs of a comparison: given runs, the trials of a study, or the runs of an experiment.

By default, it selects the best run of each backbone on each split. Runs with different splits are not ranked against
each other, because their validation metrics were measured on different images. The choice reads a few values of each
run; everything else is read of the chosen ones only.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.comparison.run_record import backbone_name
from eyegender.core.errors import UserError
from eyegender.tracking.names import metric_value, stored_name
from eyegender.tracking.tracking_store import is_training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

    from eyegender.core.options import CompareOptions
    from eyegender.tracking.tracking_store import RunSummary, TrackingStore

# A page has at most this many runs.
MOST_RUNS = 200
_TESTED = "test/accuracy"
_PARENT, _STUDY, _SPLIT = "mlflow.parentRunId", "study.name", "split.fingerprint"
_PARAMS = ("model.name", "model.backbone._target_")
_TAGS = (_PARENT, _STUDY, _SPLIT, "study", "pruned")


@dataclass(frozen=True)
class SelectedRun:
    """A run, and from how many it was selected.

    Args:
        run: finished run that trained a network.
        trials: number of runs from which it was selected; None if it was requested explicitly.
    """

    run: Run
    trials: int | None = None


@dataclass(frozen=True)
class Selection:
    """The runs to compare, and a sentence about each kind of run that was not chosen although it was asked for."""

    runs: tuple[SelectedRun, ...]
    omitted: tuple[str, ...] = ()


def select_runs(store: TrackingStore, options: CompareOptions) -> Selection:
    """The runs that the options ask for, at most MOST_RUNS.

    Raises:
        UserError: there is no such run, study or experiment, or it has no finished run.
    """
    if options.runs is not None:
        if options.study is not None:
            raise UserError("runs and study cannot both be given; remove one")
        ids = list(dict.fromkeys(options.runs))
        if len(ids) > MOST_RUNS:
            raise UserError(f"runs may name at most {MOST_RUNS} runs, got {len(ids):,}; give fewer, or study=")
        return Selection(tuple(SelectedRun(_require_training(store.run(run_id))) for run_id in ids))
    if options.study is not None:
        source, candidates = f"study {options.study!r}", study_runs(store, options.study, options.by)
    else:
        source = f"experiment {options.tracking.experiment!r}"
        candidates = _summaries(store, [store.experiment_id(options.tracking.experiment)], options.by)
    finished = [run for run in candidates if run.is_training and run.status == "FINISHED"]
    complete = [run for run in finished if run.tags.get("pruned") != "true"]
    if not complete:
        pruned = f", only {len(finished):,} pruned ones" if finished else ""
        raise UserError(
            f"{source} in {store.name} has no finished training run{pruned}; train first, or give runs=[ID,ID]"
        )
    if options.pick == "best":
        best = best_of_each_backbone(complete, options.by, options.mode)
        chosen = best[:MOST_RUNS]
        more = len(best) - len(chosen)
        omitted = (f"{more:,} more backbones on other splits are not compared.",) if more else ()
        runs = {run.info.run_id: run for run in store.runs([run for run, _ in chosen])}
        selected = tuple(SelectedRun(runs[run.run_id], count) for run, count in chosen if run.run_id in runs)
        return Selection(selected, omitted)
    sentences: list[str] = []
    if n_pruned := len(finished) - len(complete):
        trials = "pruned trial is" if n_pruned == 1 else "pruned trials are"
        sentences.append(f"{n_pruned:,} {trials} not compared.")
    chosen_runs = best_runs(complete, options.by, options.mode)
    if more := len(complete) - len(chosen_runs):
        sentences.append(
            f"The {len(chosen_runs)} best of {len(complete):,} runs by {options.by} are compared; the other {more:,} "
            "are not."
        )
    return Selection(tuple(SelectedRun(run) for run in store.runs(chosen_runs)), tuple(sentences))


def study_runs(store: TrackingStore, study: str, by: str) -> list[RunSummary]:
    """The runs that are tagged with the study's name, and their child runs."""
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    candidates = _summaries(store, experiments, by)
    tagged = {run.run_id: run for run in candidates if run.tags.get(_STUDY) == study}
    parents = {run_id for run_id, run in tagged.items() if not run.is_training}
    runs = tagged | {run.run_id: run for run in candidates if run.tags.get(_PARENT) in parents}
    if not runs:
        raise UserError(f"no run in {store.name} belongs to a study {study!r}; correct study=")
    return list(runs.values())


def was_tested(run: Run) -> bool:
    return _TESTED in run.data.metrics


def best_of_each_backbone(runs: Sequence[RunSummary], by: str, mode: str) -> list[tuple[RunSummary, int]]:
    """The best run of each backbone on each split by a validation metric, with the number of those it is the best of.

    If the best run was not tested, the best tested one is selected, too; the comparison then reports the former as left
    out.
    """
    candidates: dict[tuple[str, str], list[RunSummary]] = {}
    for run in runs:
        if not math.isnan(_score(run, by, mode)):
            candidates.setdefault((backbone_name(run.params), _split(run)), []).append(run)
    if not candidates:
        raise UserError(f"none of {len(runs)} runs logged best/{by}; set by= to a validation metric that they logged")
    selected = []
    for same_split in candidates.values():
        ranked = sorted(same_split, key=lambda run: -_score(run, by, mode))
        best_tested = [run for run in ranked if _TESTED in run.metrics][:1]
        unique = {run.run_id: run for run in [*ranked[:1], *best_tested]}
        selected += [(run, len(same_split)) for run in unique.values()]
    return selected


def best_runs(runs: Sequence[RunSummary], by: str, mode: str) -> list[RunSummary]:
    """All runs, or the best MOST_RUNS of more: the best of each split, then the second best of each, and so on."""
    if len(runs) <= MOST_RUNS:
        return list(runs)

    def badness(run: RunSummary) -> float:
        score = _score(run, by, mode)
        return math.inf if math.isnan(score) else -score

    ranks: Counter[str] = Counter()
    ranked: list[tuple[int, float, int, RunSummary]] = []
    for run in sorted(runs, key=badness):
        ranked.append((ranks[_split(run)], badness(run), len(ranked), run))
        ranks[_split(run)] += 1
    return [run for *_, run in sorted(ranked, key=lambda one: one[:3])[:MOST_RUNS]]


def _summaries(store: TrackingStore, experiments: Sequence[str], by: str) -> list[RunSummary]:
    metrics = (stored_name(f"best/{by}"), f"best/{by}", _TESTED)
    return store.summaries(experiments, params=_PARAMS, metrics=metrics, tags=_TAGS)


def _split(run: RunSummary) -> str:
    """Equal for runs that were trained, validated and tested on the same images, whatever their config says.

    A run that did not log its split is not ranked against any other.
    """
    return run.tags.get(_SPLIT) or run.run_id


def _score(run: RunSummary, by: str, mode: str) -> float:
    """Greater is better; NaN if the run has no such metric."""
    value = metric_value(run.metrics, f"best/{by}")
    if value is None:
        return math.nan
    return value if mode == "max" else -value


def _require_training(run: Run) -> Run:
    if not is_training(run):
        raise UserError(f"run {run.info.run_id} trained no network; give runs that eyegender.train made")
    return run
