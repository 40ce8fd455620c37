"""Which trials of a study its figures show, and how each state looks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from eyegender.plots.style import BLUE, FAINT, INK, PALETTE, QUIET, VERMILION
from eyegender.tracking.experiment_view import RUN_ADDRESS
from eyegender.tracking.run_names import short_keys, short_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eyegender.plots.chart import Dash, Shape
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

_ADDRESS = re.compile(r"https?://[^\s\"'<>()]+")
# A page with more curves and points would be slow to open.
MOST_DRAWN = 1000


@dataclass(frozen=True)
class StateStyle:
    """How the trials of one state look; shapes and dashes tell states apart without colours, too."""

    name: str
    colour: str
    dash: Dash
    shape: Shape


STATES = {
    "pruned": StateStyle("pruned", VERMILION, "dash", "x"),
    "failed": StateStyle("failed", INK, "dot", "cross"),
    "paused": StateStyle("paused", PALETTE[4], "dash", "square"),
    "running": StateStyle("running", PALETTE[2], "solid", "triangle-up"),
    "complete": StateStyle("complete", BLUE, "solid", "circle"),
}
BEST_COLOUR, OTHERS_COLOUR, MISSING_COLOUR = PALETTE[3], QUIET, FAINT


@dataclass(frozen=True)
class DrawnTrials:
    """The trials that figures show.

    Args:
        rows: these trials by number.
        sentence: which ones they are, if they are not all.
        names: short text of each parameter.
        maximize: direction of each objective.
        metrics: name of each objective.
        pruned_objective: index of the objective that trials report.
        best: number of the best trial; None with several objectives or without one.
    """

    rows: Sequence[TrialRow]
    sentence: str | None
    names: Mapping[str, str]
    maximize: Sequence[bool]
    metrics: Sequence[str]
    pruned_objective: int
    best: int | None

    @property
    def reported_metric(self) -> str:
        return self.metrics[self.pruned_objective]

    def complete(self) -> list[TrialRow]:
        """The complete ones whose values are finite."""
        return [row for row in self.rows if row.state == "complete" and all(map(math.isfinite, row.values))]

    def label(self, row: TrialRow) -> str:
        """The trial in words: its number, its parameters and its values."""
        params = " · ".join(f"{self.names[key]} {short_value(value)}" for key, value in row.params.items())
        values = ", ".join(f"{value:.4g}" for value in row.values)
        parts = [f"trial {row.number}", row.state, *([values] if values else []), *([params] if params else [])]
        return " · ".join(parts)


def drawn_trials(status: StudyStatus, metrics: Sequence[str], most: int = MOST_DRAWN) -> DrawnTrials:
    """All trials of a study or, of more than `most`, the best half of that number and evenly spread others.

    Args:
        status: state of the study.
        metrics: name of each objective.
        most: largest number of trials.
    """
    rows, sentence = [row for row in status.trials if row.state in STATES], None
    total = len(rows)
    if total > most:
        kept = {row.number for row in status.best[: most // 2]}
        others = [row for row in rows if row.number not in kept]
        room = most - len(kept)
        kept |= {others[i * len(others) // room].number for i in range(room)}
        rows = [row for row in rows if row.number in kept]
        sentence = (
            f"The figures show {len(rows):,} of {total:,} trials: the best ones, and others evenly spread over the "
            "study. Tables, sums and the line of the best value cover all of them."
        )
    return DrawnTrials(
        rows=sorted(rows, key=lambda row: row.number),
        sentence=sentence,
        names=short_keys(key for row in status.trials for key in row.params),
        maximize=[direction == "maximize" for direction in status.directions],
        metrics=metrics,
        pruned_objective=status.pruned_objective,
        best=status.best[0].number if status.best and len(status.directions) == 1 else None,
    )


def metric_names(study: Any, status: StudyStatus) -> list[str]:
    """The name of each objective, if the study has them; otherwise `value`, or `value 1`, `value 2` and so on."""
    known = study.metric_names
    if known and len(known) == len(status.directions):
        return [str(name) for name in known]
    count = len(status.directions)
    return ["value"] if count == 1 else [f"value {i + 1}" for i in range(count)]


def seconds_of_trial(row: TrialRow) -> float | None:
    """Seconds that a trial trained: over all attempts if the study counts them, else from the start to the end."""
    if row.seconds_at:
        return max(row.seconds_at.values())
    return row.seconds


def address_of(attrs: Mapping[str, Any]) -> str:
    """The address of a run among the user attributes of its trial or study; empty without one.

    Anyone who can write to the storage can store another text there, which is no address.
    """
    found = attrs.get(RUN_ADDRESS)
    return found if isinstance(found, str) and _ADDRESS.fullmatch(found) else ""


def is_number(value: object) -> Literal[True, False]:
    return isinstance(value, int | float) and not isinstance(value, bool)
