"""The result of a run, and the lines that it prints at its end: metrics, output folder, and how to view the run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eyegender.core.command_line.durations import duration_text
from eyegender.core.errors import UserError, one_line
from eyegender.core.secrets import redact
from eyegender.models.model_costs import costs
from eyegender.tracking.experiment_view import base_address, link
from eyegender.tracking.location import DATABASE, database_uri, mlruns
from eyegender.training.display.first_lines import relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytorch_lightning as pl

    from eyegender.core.schema import TrainConfig
    from eyegender.models.classifier import Classifier
    from eyegender.models.saved_network import ModelSpec
    from eyegender.tracking.location import Location
    from eyegender.tracking.tracker import Tracker
    from eyegender.training.callbacks import History

SHOWN = ("accuracy", "precision", "recall", "specificity", "f1", "auroc", "calibration_error", "loss")


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Args:
        score: best value of the monitored validation metric.
        metrics: train/ and val/ metrics of the best epoch, and test/ metrics if the run was tested.
        history: metrics of each epoch.
        output_dir: output folder with metrics.json and checkpoints/.
        run_id: MLflow's id of the run; None if its store was unreachable.
        spec: specification of the network.
        module: the classifier with the weights of the best epoch.
        trainer: Lightning's trainer.
    """

    score: float
    metrics: dict[str, float]
    history: History
    output_dir: Path
    run_id: str | None
    spec: ModelSpec
    module: Classifier
    trainer: pl.Trainer

    def objective(self, names: Sequence[str] | None) -> float | tuple[float, ...]:
        """The objective values of a trial: `score`, or the named metrics in order.

        Args:
            names: names of metrics, `parameters` and `latency_ms` included; None for `score`.

        Raises:
            UserError: there is no metric of that name.
        """
        if names is None:
            return self.score
        known = dict(self.metrics)
        if {"latency_ms", "parameters"} & set(names):
            parameters, _, milliseconds = costs(self.spec, latency="latency_ms" in names)
            known |= {"parameters": float(parameters)} | ({} if milliseconds is None else {"latency_ms": milliseconds})
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"objectives: no metric {unknown[0]}; known: {', '.join(sorted(known))}")
        return tuple(known[name] for name in names)


def headline(cfg: TrainConfig, result: RunResult, seconds: float) -> str:
    """What happened in one sentence: the duration, the test accuracy if there is one, and the best epoch.

    Args:
        cfg: config of the run.
        result: its result.
        seconds: its duration.
    """
    tested = result.metrics.get("test/accuracy")
    said = "" if tested is None else f"test accuracy {100 * tested:.2f}%, "
    epoch = next(int(row["epoch"]) for row in result.history if row[cfg.monitor] == result.score)
    best = f"best epoch {epoch} of {len(result.history)} by {cfg.monitor} ({result.score:.4f})"
    return f"Done in {duration_text(seconds)}: {said}{best}"


def print_summary(
    cfg: TrainConfig,
    metrics: dict[str, float],
    output_dir: Path,
    tracker: Tracker,
    *,
    source: str,
    positive: str | None,
    complete: bool,
    headline: str | None = None,
) -> None:
    """Print the last lines of a run.

    Args:
        cfg: config of the run.
        metrics: its train/, val/ and test/ metrics.
        output_dir: its output folder.
        tracker: its tracker, closed.
        source: name of the data source.
        positive: name of label 1, None if there are more than two classes.
        complete: whether the tracking store has received everything.
        headline: the first line, if any.
    """
    console = Console(highlight=False, soft_wrap=True)
    if headline is not None:
        console.print(headline, markup=False)
    splits = [split for split in ("test", "val") if f"{split}/accuracy" in metrics]
    title = f"{cfg.model.name}, {'SYNTHETIC eyes: says nothing about real eyes' if source == 'synthetic' else source}"
    table = Table(title=title, title_justify="left")
    of = "mean of the classes" if positive is None else f"{escape(one_line(positive))} = positive"
    table.add_column(f"metric ({of})")
    for split in splits:
        table.add_column({"test": "test", "val": "validation"}[split], justify="right")
    for name in SHOWN:
        table.add_row(name, *(f"{metrics[f'{split}/{name}']:.4f}" for split in splits))
    console.print(table)
    console.print(f"Output   {relative(output_dir)}")
    location = tracker.location
    where = redact(location.uri) if location.database is None else relative(location.database)
    console.print(f"Run      {tracker.run_id or 'not yet created'} in {where}")
    if not complete:
        reason, repair = tracker.sender.missing()
        first = f"{repair}, then " if repair else ""
        console.print(f"Tracking is incomplete ({reason}); {first}send the rest with:")
        console.print(f"         eyegender sync folder={shlex.quote(relative(output_dir))}")
    if refused := tracker.sender.refused:
        console.print(f"Refused  {len(refused)} entries; the first one: {refused[0]}")
    address = link(base_address(location), tracker.experiment_id or "0")
    if location.is_local:
        # The Makefile belongs to the repository and opens the store there.
        default = location.database == (mlruns() / DATABASE).resolve() and Path("Makefile").is_file()
        start = "make ui" if default else f"mlflow ui --backend-store-uri {shlex.quote(_short_uri(location))}"
        console.print(f"Look     {start}\n         then open {address}")
    else:
        console.print(f"Look     {address}")
    console.print(f"Next     {_next_command(source, tracker.run_id, output_dir)}")


def _short_uri(location: Location) -> str:
    """The URI of a local store, with the path from the working folder if it is inside."""
    assert location.database is not None
    short = relative(location.database)
    return location.uri if Path(short).is_absolute() else database_uri(Path(short))


def _next_command(source: str, run_id: str | None, output_dir: Path) -> str:
    """The command to try next: training on real images, else using the model."""
    if source == "synthetic":
        return "eyegender train data=folder data.root=FOLDER   (one folder per class)"
    best = relative(output_dir / "checkpoints" / "best.ckpt")
    return f"eyegender predict model={shlex.quote(best if run_id is None else f'runs:/{run_id}')} images=FOLDER"
