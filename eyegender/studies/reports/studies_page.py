"""The page about several studies side by side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.significance import format_p
from eyegender.core.command_line.durations import duration_text
from eyegender.plots.chart import Axis, Chart, Series
from eyegender.plots.style import PALETTE
from eyegender.studies.reports.drawn_trials import address_of
from eyegender.studies.reports.page import Cell, Page, Section, Table
from eyegender.studies.reports.side_by_side import VALIDATION, band
from eyegender.tracking.run_names import short_keys, short_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.plots.chart import Dash
    from eyegender.studies.reports.side_by_side import StudyCurve, StudyGroup, WinnerTest

_SENTENCES = 3
_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot")
ON_VALIDATION = (
    "Tests on validation images are marked. The winners were chosen on these same images, so the tests find too many "
    "differences; a test on test images decides."
)


def studies_page(
    groups: Sequence[StudyGroup], tests: Sequence[WinnerTest], impossible: Sequence[str], warnings: Sequence[str] = ()
) -> Page:
    """The page.

    Args:
        groups: the studies, each of which has a value.
        tests: the tests of their winners.
        impossible: one sentence for each pair of winners that cannot be tested.
        warnings: what else a reader must know.
    """
    curves = [curve for group in groups for curve in group.members]
    metric = next((curve.metric for curve in curves if curve.metric != "value"), "value")
    charts = [_chart(groups, metric, "trials"), _chart(groups, metric, "seconds")]
    bands = (
        ["A line with a band is the mean of studies that differ only in their seed. The band reaches from the worst "
         "to the best of them, as far as the shortest goes."] if any(len(group.members) > 1 for group in groups) else []
    )  # fmt: skip
    over = [
        "Trials and seconds are counted when a trial ends, failed ones included. Seconds are added up over all "
        "workers, so that studies with more workers have no advantage.", *bands,
    ]  # fmt: skip
    return Page(
        title=f"Comparison of {len(curves)} studies",
        answer=_answer(curves, tests, metric),
        warnings=warnings,
        facts=[f"Written {time.strftime('%Y-%m-%d %H:%M')}. Objective: {curves[0].status.directions[0]} {metric}."],
        sections=[
            Section("Best value over trials and over seconds", charts=charts, after=over),
            _studies(curves, metric),
            _tests(tests, impossible),
            Section("How the studies are grouped", before=_grouping(groups)),
        ],
    )


def _answer(curves: Sequence[StudyCurve], tests: Sequence[WinnerTest], metric: str) -> list[str]:
    maximize = curves[0].status.directions[0] == "maximize"
    ranked = sorted(curves, key=lambda curve: -curve.values[-1] if maximize else curve.values[-1])
    best, last = ranked[0], ranked[-1]
    if best.values[-1] == last.values[-1]:
        which = "Both" if len(curves) == 2 else f"All {len(curves)}"
        lines = [f"{which} studies found the same best {metric}, {best.values[-1]:.4g}."]
    else:
        lines = [
            f"{best.name} found the best {metric}, {best.values[-1]:.4g}; the best that {last.name} found is "
            f"{last.values[-1]:.4g}."
        ]
    for test in tests[:_SENTENCES]:
        lines.append(f"{test.sentence} (validation)" if test.on == VALIDATION else test.sentence)
    return lines


def _chart(groups: Sequence[StudyGroup], metric: str, of: str) -> Chart:
    series = []
    for i, group in enumerate(groups):
        colour = PALETTE[i % len(PALETTE)]
        if len(group.members) > 1:
            lists = [values.tolist() for values in band(group.members, of)]
            series.append(Series("", lists[0], lists[3], "band", colour, opacity=0.2, low=lists[1]))
            texts = [f"{group.name}: {value:.4g}" for value in lists[2]]
            series.append(Series(group.name, lists[0], lists[2], "steps", colour, size=2.2, texts=texts))
            continue
        curve = group.members[0]
        x, end = list(getattr(curve, of)), curve.total[0 if of == "trials" else 1]
        y = [*curve.values, curve.values[-1]]
        texts = [
            f"{curve.name}: {value:.4g} after {position:.6g} {of}" for position, value in zip([*x, end], y, strict=True)
        ]
        series.append(
            Series(curve.name, [*x, end], y, "steps", colour, _DASHES[i // len(PALETTE) % 3], size=2.2, texts=texts)
        )
    label = {"trials": "trials that ended", "seconds": "seconds of all trials that ended"}[of]
    return Chart(f"best_against_{of}", f"Best {metric} against {of}", series, Axis(label, whole=True), Axis(metric))


def _studies(curves: Sequence[StudyCurve], metric: str) -> Section:
    maximize = curves[0].status.directions[0] == "maximize"
    bests = [curve.values[-1] for curve in curves]
    common = min(bests) if maximize else max(bests)
    keys = list(dict.fromkeys(k for c in curves if c.status.winner for k in c.status.winner.params))
    short = short_keys(keys)
    columns = ["study", "trials", f"best {metric}", f"time to {common:.4g}", "time", "winner", *short.values()]
    rows = []
    for curve in curves:
        counts, reached = curve.status.counts, curve.seconds_to(common)
        winner = curve.status.winner
        params = {} if winner is None else winner.params
        rows.append(
            [
                Cell(curve.name, href=address_of(curve.status.user_attrs)),
                Cell(f"{counts.complete + counts.pruned:,}", f"{counts.pruned} pruned, {counts.failed} failed"),
                Cell(f"{curve.values[-1]:.4f}", strong=curve.values[-1] == (max(bests) if maximize else min(bests))),
                Cell("-" if reached is None else duration_text(reached)),
                Cell(duration_text(curve.total[1])),
                Cell("-") if winner is None else Cell(f"trial {winner.number}", href=address_of(winner.user_attrs)),
                *(Cell(short_value(params[key]) if key in params else "-") for key in keys),
            ]
        )
    after = [f"The fourth column says when each study had reached {common:.4g}, which all of them reached."]
    return Section("The studies", tables=[Table(columns, rows)], after=after)


def _tests(tests: Sequence[WinnerTest], impossible: Sequence[str]) -> Section:
    rows = [
        [
            Cell(test.first), Cell(test.second),
            Cell(f"{100 * test.difference.value:+.1f}",
                 f"{100 * test.difference.low:+.1f} to {100 * test.difference.high:+.1f}", strong=test.significant),
            Cell(format_p(test.p_corrected).removeprefix("= ")), Cell(f"{test.result.n:,} {test.on}"),
        ]
        for test in tests
    ]  # fmt: skip
    columns = ["winner of", "winner of", "difference in points, 95% interval", "corrected p", "images"]
    after = (
        ["McNemar's exact test over persons, if they are known; p-values are corrected for all pairs."] if rows else []
    )
    after += [ON_VALIDATION] if any(test.on == VALIDATION for test in tests) else []
    before = impossible if rows else [*impossible, "No pair of winners is tested."]
    return Section(
        "Are the winners different?", before=before, tables=[Table(columns, rows, 2)] if rows else [], after=after
    )


def _grouping(groups: Sequence[StudyGroup]) -> list[str]:
    lines = [
        "Studies are the same but for the seed if their search space, fixed values, settings, sampler, pruner and "
        "scheduler are equal; a study of an earlier version that does not store all of these is alone."
    ]
    for group in groups:
        if len(group.members) > 1:
            last = [curve.values[-1] for curve in group.members]
            spread = f"{np.mean(last):.4g} ± {np.std(last, ddof=1):.2g}"
            names = ", ".join(curve.name for curve in group.members)
            lines.append(f"{group.name}: {names}; mean and standard deviation of their best values {spread}.")
    if all(len(group.members) == 1 for group in groups):
        lines.append("No two of these studies are the same, so there is no band.")
    return lines
