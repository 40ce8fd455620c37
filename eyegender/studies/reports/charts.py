"""The charts of a study's report."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

from eyegender.plots.chart import Axis, Chart, Series
from eyegender.plots.style import BLUE, INK, VERMILION
from eyegender.studies.reports.drawn_trials import (
    BEST_COLOUR,
    MISSING_COLOUR,
    OTHERS_COLOUR,
    STATES,
    is_number,
    seconds_of_trial,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import optuna

    from eyegender.studies.reports.drawn_trials import DrawnTrials
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

MOST_SLICES, MOST_AXES, MOST_PAIRS = 12, 10, 3
# With more lines, they are not told apart by pointing at them, and their texts would make the page large.
MOST_TEXTS = 200
_MOST_TICKS = 24
_NAN = math.nan


def learning_curves(drawn: DrawnTrials) -> Chart | None:
    """The reports of every trial, by state, the best one on top; None if no trial has reported anything."""
    series = []
    reporting = [row for row in drawn.rows if row.reported]
    if not reporting:
        return None
    counts = Counter(row.state for row in reporting)
    for state in sorted(STATES, key=lambda state: (state != "complete", -counts[state])):  # few on top of many
        own, style = [row for row in reporting if row.state == state and row.number != drawn.best], STATES[state]
        if not own:
            continue
        lines, ends = [_curve(row) for row in own], [_last(row) for row in own]
        faint = min(0.9, max(0.25 if state == "complete" else 0.45, 12 / len(own)))
        texts = [text for row, line in zip(own, lines, strict=True) for text in [drawn.label(row)] * len(line)]
        x, y = [x for line in lines for x, _ in line], [y for line in lines for _, y in line]
        texts = texts if len(own) <= MOST_TEXTS else []
        series.append(Series("", x, y, colour=style.colour, dash=style.dash, size=1.3, opacity=faint, texts=texts))
        x, y, texts = [x for x, _ in ends], [y for _, y in ends], [drawn.label(row) for row in own]
        name, strong = f"{style.name} ({len(own)})", max(0.5, faint)
        series.append(
            Series(name, x, y, "points", style.colour, shape=style.shape, size=5, opacity=strong, texts=texts)
        )
    if best := [row for row in reporting if row.number == drawn.best]:
        line = _curve(best[0])[:-1]
        text = [drawn.label(best[0])] * len(line)
        x, y = [x for x, _ in line], [y for _, y in line]
        series.append(Series(f"best: trial {best[0].number}", x, y, colour=BEST_COLOUR, size=2.6, texts=text))
    return Chart(
        "learning_curves", f"Learning curves: {drawn.reported_metric} of each trial", series,
        Axis("epoch", whole=True), Axis(drawn.reported_metric), wide=True,
    )  # fmt: skip


def history(status: StudyStatus, drawn: DrawnTrials) -> Chart | None:
    """The value of each trial in the order in which the trials ended, and the best one so far; None without values.

    Of several objectives, it shows the first, without a best one.
    """
    ended = in_order_of_end(status)
    position = {row.number: i for i, row in enumerate(ended, start=1)}
    series = []
    for state in ("pruned", "complete"):
        style = STATES[state]
        rows = [row for row in drawn.rows if row.state == state and row.values and row.number in position]
        if rows:
            x, y = [float(position[row.number]) for row in rows], [row.values[0] for row in rows]
            texts = [drawn.label(row) for row in rows]
            name = f"{style.name}, last value" if state == "pruned" else style.name
            series.append(Series(name, x, y, "points", style.colour, shape=style.shape, size=5, texts=texts))
    if len(status.directions) == 1:
        best = best_so_far(ended, maximize=drawn.maximize[0])
        if best:
            x = [float(i + 1) for i, _ in best]
            y = [value for _, value in best]
            series.append(Series("best so far", [*x, len(ended)], [*y, y[-1]], "steps", INK, size=1.8))
    if not series:
        return None
    label = Axis("trials, in the order in which they ended", whole=True)
    return Chart("history", f"{drawn.metrics[0]} of each trial", series, label, Axis(drawn.metrics[0]), wide=True)


def cost(drawn: DrawnTrials) -> Chart | None:
    """Seconds and value of each trial, by state; None if no trial has both."""
    series = []
    for state, style in STATES.items():
        rows = [row for row in drawn.rows if row.state == state and seconds_of_trial(row)]
        rows = [row for row in rows if row.values or row.reported]
        if rows:
            x = [seconds_of_trial(row) or 0.0 for row in rows]
            y = [_value(row, drawn.pruned_objective) for row in rows]
            texts = [f"{seconds:.3g} s · {drawn.label(row)}" for seconds, row in zip(x, rows, strict=True)]
            series.append(Series(style.name, x, y, "points", style.colour, shape=style.shape, size=5.5, texts=texts))
    if not series:
        return None
    metric = drawn.reported_metric
    return Chart(
        "cost", f"Cost of each trial, and its last {metric}", series, Axis("seconds of training"), Axis(metric)
    )


def slices(study: optuna.Study, drawn: DrawnTrials, order: Sequence[str]) -> list[Chart]:
    """The value against each parameter that varies, of the complete trials.

    Args:
        study: the study, whose distributions say which parameters are logarithmic.
        drawn: the trials.
        order: parameters, the most important first; others follow by name.
    """
    rows = drawn.complete()
    keys = [*order, *sorted({key for row in rows for key in row.params} - set(order))]
    varied = [key for key in keys if len({str(row.params[key]) for row in rows if key in row.params}) > 1]
    logarithmic = _logarithmic(study)
    return [_slice(drawn, rows, key, log=key in logarithmic) for key in varied[:MOST_SLICES]]


def parallel_coordinates(study: optuna.Study, drawn: DrawnTrials, order: Sequence[str]) -> Chart | None:
    """One line per complete trial over its parameters and its value; None with fewer than two varied parameters.

    A trial without a conditional parameter passes below the axis of it.
    """
    rows = drawn.complete()
    keys = [*order, *sorted({key for row in rows for key in row.params} - set(order))]
    varied = [key for key in keys if len({str(row.params[key]) for row in rows if key in row.params}) > 1]
    varied = varied[: MOST_AXES - 1]
    if len(varied) < 2 or len({row.values[0] for row in rows}) < 2:
        return None
    logarithmic = _logarithmic(study)
    axes = [_Coordinate([row.params.get(key) for row in rows], log=key in logarithmic) for key in varied]
    axes.append(_Coordinate([row.values[0] for row in rows]))
    ranked = sorted(range(len(rows)), key=lambda i: -rows[i].values[0] if drawn.maximize[0] else rows[i].values[0])
    top, half = max(1, len(rows) // 10), max(1, len(rows) // 2)
    groups = (
        ("the other half", ranked[half:], OTHERS_COLOUR, 0.25, 0.9),
        ("best half", ranked[top:half], BLUE, 0.4, 1.1),
        ("best tenth", ranked[:top], VERMILION, 0.9, 1.8),
    )
    positions = [float(i) for i in range(len(axes))]
    series = [Series("", [p, p], [-0.0, 1.0], colour=MISSING_COLOUR, size=1.0) for p in positions]
    for name, members, colour, opacity, width in groups:
        if members:
            x = [p for _ in members for p in (*positions, _NAN)]
            y = [v for i in members for v in (*(axis.heights[i] for axis in axes), _NAN)]
            texts = (
                [drawn.label(rows[i]) for i in members for _ in (*positions, _NAN)]
                if len(members) <= MOST_TEXTS
                else ()
            )
            series.append(Series(name, x, y, colour=colour, opacity=opacity, size=width, texts=texts))
    names = [*(drawn.names[key] for key in varied), drawn.metrics[0]]
    return Chart(
        "parallel_coordinates", f"Parameters and {drawn.metrics[0]} of each complete trial", series,
        Axis(ticks=list(zip(positions, names, strict=True)), limits=(-0.35, len(axes) - 0.65)),
        Axis(ticks=[(-10.0, "")], limits=(-0.17, 1.1)), wide=True,
        texts=[(p, height, text) for p, axis in zip(positions, axes, strict=True) for height, text in axis.texts],
        note="Lines below an axis: the trial has no such parameter." if any(axis.has_gaps for axis in axes) else "",
    )  # fmt: skip


def pareto_fronts(status: StudyStatus, drawn: DrawnTrials) -> list[Chart]:
    """The complete trials and the Pareto front for each pair of objectives; empty with one objective."""
    front = {row.number for row in status.best}
    rows = drawn.complete()
    found = []
    for first, second in list(combinations(range(len(drawn.metrics)), 2))[:MOST_PAIRS]:
        series = []
        for name, own, colour, size in (
            ("other trials", [row for row in rows if row.number not in front], OTHERS_COLOUR, 4.5),
            ("Pareto front", [row for row in rows if row.number in front], VERMILION, 7.0),
        ):
            x, y = [row.values[first] for row in own], [row.values[second] for row in own]
            if name == "Pareto front" and len(drawn.metrics) == 2 and len(own) > 1:
                at = sorted(zip(x, y, strict=True))
                line = [point[0] for point in at], [point[1] for point in at]
                series.append(Series("", line[0], line[1], colour=colour, dash="dot", size=1.2))
            if own:
                texts = [drawn.label(row) for row in own]
                series.append(Series(name, x, y, "points", colour, size=size, texts=texts))
        if series:
            names = [drawn.metrics[i] for i in (first, second)]
            goals = [f"{name} ({'higher' if drawn.maximize[i] else 'lower'} is better)"
                     for i, name in zip((first, second), names, strict=True)]  # fmt: skip
            name = f"pareto_front_{first}_{second}" if len(drawn.metrics) > 2 else "pareto_front"
            title = f"Pareto front: {names[0]} and {names[1]}"
            found.append(Chart(name, title, series, Axis(goals[0]), Axis(goals[1]), wide=len(drawn.metrics) == 2))
    return found


def in_order_of_end(status: StudyStatus) -> list[TrialRow]:
    """The complete and the pruned trials in the order in which they ended; those of unknown time by number."""
    rows = [row for row in status.trials if row.state in ("complete", "pruned")]
    return sorted(rows, key=lambda row: (row.ended.timestamp() if row.ended else 0.0, row.number))


def best_so_far(ended: Sequence[TrialRow], *, maximize: bool) -> list[tuple[int, float]]:
    """Position and value of each trial that was better than all before it; infeasible and infinite ones never are."""
    found: list[tuple[int, float]] = []
    for i, row in enumerate(ended):
        if row.state != "complete" or not row.feasible or not math.isfinite(value := row.values[0]):
            continue
        if not found or (value > found[-1][1] if maximize else value < found[-1][1]):
            found.append((i, value))
    return found


class _Coordinate:
    """The heights of all trials on one axis of parallel coordinates, and the texts beside it."""

    def __init__(self, values: Sequence[Any], *, log: bool = False) -> None:
        known = [value for value in values if value is not None]
        self.has_gaps = len(known) < len(values)
        scale = _scale_of(known, log=log)
        self.heights = [-0.13 if value is None else scale(value) for value in values]
        if all(map(is_number, known)):
            self.texts = [(-0.055, _short(min(known))), (1.05, _short(max(known)))]
        else:
            names = _categories(known)
            shown = names if len(names) <= 8 else [names[0], names[-1]]
            self.texts = [(scale(name) + (0.045 if scale(name) < 1 else 0.05), _cut(name)) for name in shown]


def _scale_of(known: Sequence[Any], *, log: bool) -> Any:
    """Maps a value to 0..1."""
    if not all(map(is_number, known)):
        names = _categories(known)
        step = 1 / max(1, len(names) - 1)
        places = {name: i * step for i, name in enumerate(names)}
        return lambda value: places[str(value)]
    numbers = [float(value) for value in known]
    of = math.log if log and min(numbers) > 0 else float
    low, high = of(min(numbers)), of(max(numbers))
    return lambda value: (of(float(value)) - low) / (high - low) if high > low else 0.5


def _slice(drawn: DrawnTrials, rows: Sequence[TrialRow], key: str, *, log: bool) -> Chart:
    own = [row for row in rows if key in row.params]
    values = [row.params[key] for row in own]
    axis = Axis(drawn.names[key], log=log, whole=all(isinstance(value, int) for value in values))
    if all(map(is_number, values)):
        x = [float(value) for value in values]
    else:
        names = _categories(values)
        place = {name: float(i) for i, name in enumerate(names)}
        x = [place[str(value)] for value in values]
        ticks = [(place[name], name) for name in names[:_MOST_TICKS]]
        axis = Axis(drawn.names[key], ticks=ticks, limits=(-0.6, len(names) - 0.4))
    y, texts = [row.values[0] for row in own], [drawn.label(row) for row in own]
    series = [Series("", x, y, "points", BLUE, size=5, opacity=0.75, texts=texts)]
    if best := [i for i, row in enumerate(own) if row.number == drawn.best]:
        i = best[0]
        name = f"best: trial {drawn.best}"
        series.append(Series(name, [x[i]], [y[i]], "points", BEST_COLOUR, shape="diamond", size=8, texts=[texts[i]]))
    file = "slice_" + re.sub(r"[^\w.-]", "_", key, flags=re.ASCII)
    return Chart(file, f"{drawn.metrics[0]} against {drawn.names[key]}", series, axis, Axis(drawn.metrics[0]))


def _logarithmic(study: optuna.Study) -> set[str]:
    """The keys of parameters that were drawn on a logarithmic scale."""
    return {
        name.partition(" (")[0]
        for trial in study.get_trials(deepcopy=False)
        for name, distribution in trial.distributions.items()
        if getattr(distribution, "log", False)
    }


def _categories(values: Sequence[Any]) -> list[str]:
    """The different values as texts: numbers by size, then names."""

    def place(text: str) -> tuple[bool, float, str]:
        try:
            return False, float(text), text
        except ValueError:
            return True, 0.0, text

    return sorted({str(value) for value in values}, key=place)


def _curve(row: TrialRow) -> list[tuple[float, float]]:
    """Its reports by step, and a gap after them."""
    return [*((float(step), row.reported[step]) for step in sorted(row.reported)), (_NAN, _NAN)]


def _last(row: TrialRow) -> tuple[float, float]:
    finite = [step for step, value in row.reported.items() if math.isfinite(value)]
    step = max(finite, default=max(row.reported))
    return float(step), row.reported[step]


def _value(row: TrialRow, objective: int) -> float:
    if row.state == "complete" and len(row.values) > objective:
        return row.values[objective]
    return row.reported[max(row.reported)] if row.reported else row.values[0]


def _short(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= 14 else f"{text[:13]}…"


def unique_names(charts: Iterator[Chart] | Sequence[Chart]) -> Mapping[str, Chart]:
    """The charts by name; one whose name is taken gets a number."""
    found: dict[str, Chart] = {}
    for chart in charts:
        name, number = chart.name, 2
        while name in found:
            name, number = f"{chart.name}_{number}", number + 1
        found[name] = chart
    return found
