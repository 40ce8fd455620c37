"""Prints the state of a study as tables on the console."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from eyegender.studies.ties import tie_sentence
from hydra_plugins.optuna_study import params_text

if TYPE_CHECKING:
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

SHOWN = 5


def show_status(status: StudyStatus, console: Console | None = None) -> None:
    """Print counts, the best trials, running workers with their last heartbeat, paused trials, and failures."""
    console = console or Console(highlight=False, soft_wrap=True)
    counts = status.counts
    target = "" if status.n_trials is None else f" of {status.n_trials}"
    spent = "" if status.spent is None else f"\nBudget   {status.spent} spent"
    console.print(
        f"Study    {status.name} in {status.storage}\n"
        f"Trials   {counts.finished}{target} finished ({counts.complete} complete, {counts.pruned} pruned), "
        f"{counts.failed} failed, {len(status.workers)} running"
        f"{f', {counts.paused} paused' if counts.paused else ''}{'; done' if status.complete else ''}{spent}"
    )
    if status.best:
        table = Table("trial", "value", "parameters", title="best trials", title_justify="left")
        keys = {key for trial in status.trials for key in trial.params}
        for trial in status.best[:SHOWN]:
            values = ", ".join(f"{value:.4f}" for value in trial.values)
            table.add_row(str(trial.number), values, params_text(trial.params, keys))
        console.print(table)
    if status.no_best is not None:
        console.print(f"Best     {status.no_best}")
    if status.recommended is not None and status.recommendation is not None:
        console.print(f"Winner   trial {status.recommended.number}; {status.recommendation}")
    if tie := tie_sentence(status):
        console.print(f"Best     {tie}")
    if status.workers:
        table = Table("worker", "host", "process", "trial", "last heartbeat", title="running", title_justify="left")
        for worker in status.workers:
            heartbeat = "?" if worker.seconds_since_heartbeat is None else f"{worker.seconds_since_heartbeat:.0f} s ago"
            table.add_row(str(worker.worker), worker.host, str(worker.pid), str(worker.trial), heartbeat)
        console.print(table)
    for trial in (trial for trial in status.trials if trial.state == "paused"):
        console.print(f"paused   trial {trial.number}{paused_reason(trial, status)}")
    for trial in status.failures:
        console.print(f"failed   trial {trial.number}: {trial.reason}")


def paused_reason(trial: TrialRow, status: StudyStatus) -> str:
    """Why a trial is paused: its value, its rank among all that reached its epoch, and the paused ones before it."""
    epoch = max(trial.reported, default=None)
    if epoch is None:
        return ", before its first epoch"
    maximize = status.directions[status.pruned_objective] == "maximize"

    def cost(row: TrialRow) -> tuple[float, int]:
        value = row.reported[epoch]
        return (math.inf if math.isnan(value) else -value if maximize else value), row.number

    reached = [row for row in status.trials if epoch in row.reported and row.state != "failed"]
    better = sorted((row for row in reached if cost(row) < cost(trial)), key=cost)
    before = [str(row.number) for row in better if row.state == "paused"]
    text = f": {trial.reported[epoch]:.4f} after epoch {epoch}, rank {len(better) + 1} of {len(reached)}"
    if not before:
        return f"{text}; first of the paused"
    shown = ", ".join(before[:2]) + (f" and {len(before) - 2} more" if len(before) > 2 else "")
    return f"{text}; behind {shown}"
