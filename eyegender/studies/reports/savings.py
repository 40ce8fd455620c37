"""What the trials of a study cost, and what pruning, pausing and stored activations saved."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from eyegender.core.command_line.durations import duration_text
from eyegender.features.sweep_plan import PLAN_ATTR
from eyegender.studies.reports.drawn_trials import seconds_of_trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hydra_plugins.optuna_study import StudyStatus, TrialRow

DEPTH = "model.finetune_depth"


@dataclass(frozen=True)
class StateCost:
    """What the trials of one state cost.

    Args:
        state: complete, pruned, paused, running or failed.
        trials: number of trials.
        epochs: epochs that they reported.
        seconds: seconds that they took; trials of unknown duration count as 0.
    """

    state: str
    trials: int
    epochs: int
    seconds: float


def costs_by_state(status: StudyStatus) -> list[StateCost]:
    """What the trials cost, by state, the most expensive state first; without trials that have not started."""
    found = []
    for state in dict.fromkeys(row.state for row in status.trials if row.state != "waiting"):
        rows = [row for row in status.trials if row.state == state]
        seconds = sum(seconds_of_trial(row) or 0.0 for row in rows)
        found.append(StateCost(state, len(rows), sum(len(row.reported) for row in rows), seconds))
    return sorted(found, key=lambda cost: -cost.seconds)


def saving_sentences(status: StudyStatus) -> list[str]:
    """What was saved, in one sentence each; what cannot be known is said, too."""
    return [*_stopped_early(status), _by_activations(status)]


def _stopped_early(status: StudyStatus) -> list[str]:
    rows = [row for row in status.trials if row.state in ("pruned", "paused")]
    if not rows:
        return ["No trial was pruned or paused, so this saved nothing."]
    full = [len(row.reported) for row in status.trials if row.state == "complete" and row.reported]
    usual = round(median(full)) if full else None
    not_trained, seconds, unknown = 0, 0.0, 0
    for row in rows:
        length = row.max_resource or usual
        if length is None:
            unknown += 1
            continue
        missing = max(0, length - len(row.reported))
        not_trained += missing
        took = seconds_of_trial(row)
        if row.reported and took:
            seconds += missing * took / len(row.reported)
        elif missing:
            unknown += 1
    if not not_trained:
        return ["What pruning and pausing saved is unknown, because no trial has reached its full length."]
    trained = sum(len(row.reported) for row in status.trials)
    spent = sum(cost.seconds for cost in costs_by_state(status))
    share = not_trained / (not_trained + trained)
    text = (
        f"Pruning and pausing saved {not_trained:,} of {not_trained + trained:,} epochs ({100 * share:.0f}%), at each "
        f"trial's own seconds per epoch about {duration_text(seconds)}; the study took {duration_text(spent)}."
    )
    return [text if not unknown else f"{text} Of {unknown} of these trials, the seconds are unknown."]


def _by_activations(status: StudyStatus) -> str:
    plan = status.user_attrs.get(PLAN_ATTR)
    planned, without = _table(plan, "epoch_seconds"), _table(plan, "epoch_seconds_from_images")
    if not planned or not without:
        return "What stored activations saved is unknown: it is known for studies with a plan of this version."
    saved, epochs, left_out = 0.0, 0, 0
    for row in status.trials:
        found = _seconds_of_epoch(row, planned), _seconds_of_epoch(row, without)
        if not row.reported:
            continue
        if found[0] is None or found[1] is None:
            left_out += 1
            continue
        saved += len(row.reported) * (found[1] - found[0])
        epochs += len(row.reported)
    if not epochs:
        return "Stored activations have saved nothing yet, because no trial has finished an epoch."
    build = plan.get("build_seconds", 0.0) if isinstance(plan, dict) else 0.0
    text = (
        f"Stored activations saved about {duration_text(max(0.0, saved - build))} in {epochs:,} epochs, by the seconds "
        f"per epoch that were measured for the plan. The {duration_text(build)} that it expects to compute and store "
        "them are subtracted."
    )
    return f"{text} {left_out} trials that the plan does not know are left out." if left_out else text


def _table(plan: object, key: str) -> Mapping[str, Mapping[str, float]] | None:
    """Seconds by kind of trials and depth, from the attribute of a study, which may be damaged; else None."""
    found = plan.get(key) if isinstance(plan, dict) else None
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        return None
    return found


def _seconds_of_epoch(row: TrialRow, table: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Seconds of an epoch of this trial; None if the plan has none for it."""
    for label, by_depth in table.items():
        if not _fits(row, label.split()):
            continue
        depth = str(row.params.get(DEPTH, next(iter(by_depth)) if len(by_depth) == 1 else ""))
        found = by_depth.get(depth)
        return float(found) if isinstance(found, int | float) else None
    return None


def _fits(row: TrialRow, pairs: Sequence[str]) -> bool:
    """Whether a trial has the values in the label of a kind of trials, each written `key=value`."""
    return all(
        str(row.params.get(key.lstrip("+~"))) == value for key, _, value in (pair.partition("=") for pair in pairs)
    )
