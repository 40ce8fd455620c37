"""The content of a study's HTML report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eyegender.core.command_line.durations import duration_text
from eyegender.studies.importance import importance_figure
from eyegender.studies.reports import charts as draw
from eyegender.studies.reports.drawn_trials import address_of, drawn_trials, seconds_of_trial
from eyegender.studies.reports.page import Cell, Image, Page, Section, Table
from eyegender.studies.reports.retraining import retrain_commands
from eyegender.studies.reports.savings import costs_by_state, saving_sentences
from eyegender.studies.selection_bias import accuracy_in
from eyegender.studies.ties import tie_sentence
from eyegender.studies.winner import trial_folder
from eyegender.tracking.predictions import PREDICTIONS_FILE, VAL_PREDICTIONS_FILE
from eyegender.tracking.run_names import short_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import optuna

    from eyegender.plots.chart import Chart
    from eyegender.studies.importance import Importances
    from eyegender.studies.reports.drawn_trials import DrawnTrials
    from eyegender.studies.selection_bias import SelectionBias
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

SHOWN, MOST_FAILURES, MOST_ROWS = 10, 50, 200


@dataclass(frozen=True)
class Findings:
    """What the end of a sweep knows beside the state of the study.

    Args:
        winner: trial that was evaluated on the test set, if any.
        tested: its test metrics.
        bias: what the best value owes to luck, if it is known.
        importances: importance of the parameters, for groups of trials.
    """

    winner: TrialRow | None = None
    tested: dict[str, float] = field(default_factory=dict)
    bias: SelectionBias | None = None
    importances: Sequence[Importances] = ()


def report_page(
    study: optuna.Study, status: StudyStatus, metrics: Sequence[str], found: Findings, folder: Path
) -> Page:
    """The report of a study.

    Args:
        study: Optuna's study.
        status: its state.
        metrics: name of each objective.
        found: what else is known.
        folder: folder of the sweep, where trials are looked for whose own folder was moved.
    """
    drawn = drawn_trials(status, metrics)
    order = _order(found.importances)
    sections = [
        _best(status, drawn, folder),
        _train_again(status, found, folder),
        _learning(drawn),
        _history(status, drawn),
        _pareto(status, drawn),
        _importance(found.importances),
        _parameters(study, drawn, order),
        _costs(status, drawn),
        _failures(status, drawn),
        _all_trials(status, drawn),
    ]
    return Page(
        title=f"Study {status.name}",
        answer=_answer(status, found, metrics, folder),
        facts=_facts(status, metrics, drawn),
        link=address_of(status.user_attrs),
        sections=[section for section in sections if section is not None],
    )


def _answer(status: StudyStatus, found: Findings, metrics: Sequence[str], folder: Path) -> list[str]:
    """What the study found; first of all, what the best value owes to the choice."""
    lines = [] if found.bias is None else list(found.bias.sentences)
    if status.no_best is not None:
        lines.append(f"{status.no_best.capitalize()}.")
    elif not status.best:
        lines.append("No trial is complete, so there is no best one.")
    elif len(status.directions) > 1:
        lines.append(f"{len(status.best)} of {status.counts.complete} complete trials are on the Pareto front.")
    elif found.bias is None:
        best = status.best[0]
        of = f"{status.counts.complete} complete trial{'s' * (status.counts.complete != 1)}"
        lines.append(f"Trial {best.number} has the best {metrics[0]} of {of}: {best.values[0]:.4g}.")
    if status.recommended is not None and status.recommendation is not None:
        lines.append(f"Trial {status.recommended.number} is recommended: {status.recommendation}.")
    if tie := tie_sentence(status):
        lines.append(f"{tie}. There is no evidence that one of them is better.")
    if found.winner is not None and "test/accuracy" in found.tested:
        text = f"accuracy {100 * found.tested['test/accuracy']:.2f}%"
        if (interval := accuracy_in(trial_folder(found.winner, folder) / PREDICTIONS_FILE)) is not None:
            text += f" (95% interval {100 * interval.low:.1f} to {100 * interval.high:.1f}%)"
        lines.append(f"Trial {found.winner.number} was tested once on the test set: {text}.")
    return lines


def _facts(status: StudyStatus, metrics: Sequence[str], drawn: DrawnTrials) -> list[str]:
    counts = status.counts
    goals = ", ".join(f"{d} {name}" for d, name in zip(status.directions, metrics, strict=True))
    states = ("complete", "pruned", "failed", "paused", "running", "waiting")
    numbers = ", ".join(f"{getattr(counts, name):,} {name}" for name in states if getattr(counts, name)) or "no trials"
    state = "done" if status.complete else "not done"
    written = f"Written {time.strftime('%Y-%m-%d %H:%M')}; {numbers}; {state}. Objective: {goals}."
    budget = [] if status.spent is None else [f"Budget: {status.spent} spent."]
    return [written, *budget, *([drawn.sentence] if drawn.sentence else [])]


def _best(status: StudyStatus, drawn: DrawnTrials, folder: Path) -> Section | None:
    rows = status.best[:SHOWN]
    if not rows:
        return None
    accuracies = [accuracy_in(trial_folder(row, folder) / VAL_PREDICTIONS_FILE) for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row.params))
    columns = ["trial", *drawn.metrics]
    columns += ["validation accuracy"] if any(accuracies) else []
    columns += [*(drawn.names[key] for key in keys), "epochs", "cost"]
    table = []
    for row, accuracy in zip(rows, accuracies, strict=True):
        cells = [_number(row), *(Cell(f"{value:.4f}", strong=row is rows[0]) for value in row.values)]
        if any(accuracies):
            low_high = "" if accuracy is None else f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}%"
            cells.append(Cell("-" if accuracy is None else f"{100 * accuracy.value:.1f}%", low_high))
        cells += [Cell(short_value(row.params[key]) if key in row.params else "-") for key in keys]
        table.append([*cells, Cell(str(len(row.reported) or "-")), _cost(row)])
    several = len(status.directions) > 1
    more = len(status.best) - len(rows)
    after = ["Small numbers are 95% intervals, over persons if these are known. They do not correct for the choice."]
    return Section(
        "Pareto front" if several else "Best trials",
        tables=[Table(columns, table)],
        after=[
            *(after if any(accuracies) else []),
            *([f"And {more:,} more in trials.csv."] if several and more else []),
        ],
    )


def _train_again(status: StudyStatus, found: Findings, folder: Path) -> Section | None:
    rows = [found.winner] if found.winner is not None else [status.winner] if status.winner else status.best[:3]
    if not rows:
        return None
    commands, sentences = retrain_commands(rows, folder)
    text = "This command trains the same configuration again, and tests it:"
    return Section("Train it again", before=[text] if commands else [], commands=commands, after=sentences)


def _learning(drawn: DrawnTrials) -> Section | None:
    chart = draw.learning_curves(drawn)
    return None if chart is None else Section("Learning curves", charts=[chart])


def _history(status: StudyStatus, drawn: DrawnTrials) -> Section | None:
    chart = draw.history(status, drawn)
    return None if chart is None else Section("History", charts=[chart])


def _pareto(status: StudyStatus, drawn: DrawnTrials) -> Section | None:
    charts = draw.pareto_fronts(status, drawn) if len(status.directions) > 1 else []
    return Section("Trade-offs", charts=charts) if charts else None


def _importance(found: Sequence[Importances]) -> Section:
    title = "Which parameters matter"
    if not found:
        return Section(title, before=[IMPORTANCE_UNKNOWN])
    tables = []
    for group in found:
        rows = [
            [Cell(name), Cell(f"{one.share:.2f}", f"{one.low:.2f} to {one.high:.2f}")]
            for name, one in group.shares.items()
        ]
        tables.append(Table([f"{group.subset}, {group.n_trials} finished", "importance, 95% interval"], rows))
    return Section(title, images=[Image("Importance of the parameters", importance_figure(found))], tables=tables,
                   after=[IMPORTANCE_MEANING])  # fmt: skip


def _parameters(study: optuna.Study, drawn: DrawnTrials, order: Sequence[str]) -> Section | None:
    charts: list[Chart] = [*draw.slices(study, drawn, order)]
    parallel = draw.parallel_coordinates(study, drawn, order)
    if parallel is not None:
        charts.append(parallel)
    if not charts:
        return None
    most, after = draw.MOST_SLICES, []
    varied = {key for row in drawn.complete() for key in row.params}
    if len(charts) >= most and len(varied) > most:
        after = [f"Shown are {most} parameters, the most important ones first."]
    return Section("Parameters and values", charts=list(draw.unique_names(charts).values()), after=after)


def _costs(status: StudyStatus, drawn: DrawnTrials) -> Section | None:
    costs = costs_by_state(status)
    if not costs:
        return None
    total = sum(cost.seconds for cost in costs)
    rows = [
        [
            Cell(cost.state), Cell(f"{cost.trials:,}"), Cell(f"{cost.epochs:,}"), Cell(duration_text(cost.seconds)),
            Cell(f"{100 * cost.seconds / total:.0f}%" if total else "-"),
            Cell(duration_text(cost.seconds / cost.trials)),
        ]
        for cost in costs
    ]  # fmt: skip
    chart = draw.cost(drawn)
    table = Table(["state", "trials", "epochs", "time", "share", "per trial"], rows)
    return Section(
        "What it cost, and what was saved",
        before=saving_sentences(status),
        charts=[] if chart is None else [chart],
        tables=[table],
        after=["Times are added up over all workers."],
    )


def _failures(status: StudyStatus, drawn: DrawnTrials) -> Section | None:
    failures = status.failures
    if not failures:
        return None
    rows = [
        [_number(row), Cell(row.reason or "unknown", long=True), Cell(_params(row, drawn), long=True)]
        for row in failures[:MOST_FAILURES]
    ]
    more = len(failures) - len(rows)
    after = [f"And {more:,} more in trials.csv."] if more else []
    return Section("Failures", tables=[Table(["trial", "reason", "parameters"], rows, left=3)], after=after)


def _all_trials(status: StudyStatus, drawn: DrawnTrials) -> Section | None:
    if not status.trials:
        return None
    rows = [
        [
            _number(row), Cell(row.state if row.feasible else f"{row.state}, infeasible"),
            Cell(" ".join(f"{value:.4g}" for value in row.values) or "-"), Cell(str(len(row.reported) or "-")),
            _cost(row), Cell(_params(row, drawn), long=True),
        ]
        for row in sorted(status.trials, key=lambda row: row.number)[:MOST_ROWS]
    ]  # fmt: skip
    columns = ["trial", "state", " ".join(drawn.metrics), "epochs", "cost", "parameters"]
    more = len(status.trials) - len(rows)
    shown = f"The first {len(rows)} of {len(status.trials):,} trials" if more else f"All {len(rows)} trials"
    after = ["trials.csv beside this file contains all trials, with full precision."]
    return Section("All trials", tables=[Table(columns, rows, left=2, folded=shown)], after=after)


IMPORTANCE_MEANING = (
    "The importance of a parameter is its share of the variance that single parameters explain (fANOVA), over the "
    "ranges that were searched. The intervals come from resampling the trials. Pruned trials are ignored."
)
IMPORTANCE_UNKNOWN = (
    "Importance is unknown: five finished trials with different values and two varying parameters are required."
)


def _order(found: Sequence[Importances]) -> list[str]:
    """The parameters by importance, as keys of the config."""
    names = [name.partition(" (")[0] for group in found for name in group.shares]
    return list(dict.fromkeys(names))


def _number(row: TrialRow) -> Cell:
    return Cell(str(row.number), href=address_of(row.user_attrs))


def _cost(row: TrialRow) -> Cell:
    seconds = seconds_of_trial(row)
    return Cell("-" if seconds is None else duration_text(seconds))


def _params(row: TrialRow, drawn: DrawnTrials) -> str:
    return ", ".join(f"{drawn.names[key]} {short_value(value)}" for key, value in row.params.items()) or "-"
