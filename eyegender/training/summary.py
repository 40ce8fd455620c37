"""What a run prints at its end: the test metrics, where everything is, and how to look at it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eyegender.core.errors import one_line
from eyegender.core.secrets import redact
from eyegender.tracking.experiment_view import link
from eyegender.tracking.location import DATABASE, mlruns

if TYPE_CHECKING:
    from eyegender.core.schema import TrainConfig
    from eyegender.tracking.tracker import Tracker

SHOWN = ("accuracy", "precision", "recall", "specificity", "f1", "auroc", "calibration_error", "loss")
UI_ADDRESS = "http://127.0.0.1:5000"


def wants_bars(progress: str) -> bool:
    """Whether to draw progress bars: only where somebody watches a terminal."""
    return progress == "bars" or (progress == "auto" and sys.stdout.isatty())


def print_summary(
    cfg: TrainConfig,
    metrics: dict[str, float],
    output_dir: Path,
    tracker: Tracker,
    *,
    source: str,
    positive: str,
    complete: bool,
) -> None:
    """The last lines of a run; `positive` is the name of the class with label 1."""
    console = Console(highlight=False, soft_wrap=True)
    parts = [part for part in ("test", "val") if f"{part}/accuracy" in metrics]
    title = f"{cfg.model.name}, {'SYNTHETIC eyes: says nothing about real ones' if source == 'synthetic' else source}"
    table = Table(title=title, title_justify="left")
    table.add_column(f"metric ({escape(one_line(positive))} = positive)")
    for part in parts:
        table.add_column({"test": "test", "val": "validation"}[part], justify="right")
    for name in SHOWN:
        table.add_row(name, *(f"{metrics[f'{part}/{name}']:.4f}" for part in parts))
    console.print(table)
    console.print(f"Output   {_short(output_dir)}")
    location = tracker.location
    console.print(f"Run      {tracker.run_id or 'not yet created'} in {redact(location.uri)}")
    if not complete:
        reason, repair = tracker.sender.missing()
        first = f"{repair}, then " if repair else ""
        console.print(f"Tracking is not complete ({reason}); {first}send the rest with:")
        console.print(f"         python -m eyegender.sync folder={shlex.quote(_short(output_dir))}")
    if refused := tracker.sender.refused:
        console.print(f"Refused  {len(refused)} entries by the store, the first was {refused[0]}")
    base = location.uri.rstrip("/") if location.uri.startswith("http") else UI_ADDRESS
    address = link(redact(base), tracker.experiment_id or "0")
    if location.is_local:
        # The Makefile is the checkout's, and looks at the store there.
        default = location.database == (mlruns() / DATABASE).resolve() and Path("Makefile").is_file()
        start = "make ui" if default else f"mlflow ui --backend-store-uri {shlex.quote(location.uri)}"
        console.print(f"Look     {start}   then open {address}")
    else:
        console.print(f"Look     {address}")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
