"""Prints the state of a study as tables on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from eyegender.studies.ties import tie_sentence

if TYPE_CHECKING:
    from hydra_plugins.optuna_study import StudyStatus

SHOWN = 5


def show_status(status: StudyStatus, console: Console | None = None) -> None:
    """Print counts, the best trials, running workers with their last heartbeat, paused trials, and failures."""
    console = console or Console(highlight=False, soft_wrap=True)
    counts = status.counts
    target = "" if status.n_trials is None else f" of {status.n_trials}"
    console.print(
        f"Study    {status.name} in {status.storage}\n"
        f"Trials   {counts.finished}{target} finished ({counts.complete} complete, {counts.pruned} pruned), "
        f"{counts.failed} failed, {len(status.workers)} running"
        f"{f', {counts.paused} paused' if counts.paused else ''}{'; done' if status.complete else ''}"
    )
    if status.best:
        table = Table("trial", "value", "parameters", title="best trials", title_justify="left")
        for trial in status.best[:SHOWN]:
            values = ", ".join(f"{value:.4f}" for value in trial.values)
            table.add_row(str(trial.number), values, ", ".join(f"{k}={v}" for k, v in trial.params.items()))
        console.print(table)
    if status.no_best is not None:
        console.print(f"Best     {status.no_best}")
    if tie := tie_sentence(status):
        console.print(f"Best     {tie}")
    if status.workers:
        table = Table("worker", "host", "process", "trial", "last heartbeat", title="running", title_justify="left")
        for worker in status.workers:
            heartbeat = "?" if worker.seconds_since_heartbeat is None else f"{worker.seconds_since_heartbeat:.0f} s ago"
            table.add_row(str(worker.worker), worker.host, str(worker.pid), str(worker.trial), heartbeat)
        console.print(table)
    for trial in (trial for trial in status.trials if trial.state == "paused"):
        last = max(trial.reported, default=None)
        reached = "" if last is None else f": {trial.reported[last]:.4f} after epoch {last}"
        console.print(f"paused   trial {trial.number}{reached}; others are worth more now")
    for trial in status.failures:
        console.print(f"failed   trial {trial.number}: {trial.reason}")
