"""A comparison in a few lines of a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.table import Table

from eyegender.comparison.page import PAGE_FILE
from eyegender.comparison.tables import facts_table

if TYPE_CHECKING:
    from rich.console import Console

    from eyegender.comparison.workflow import Compared
    from eyegender.comparison.comparison import Comparison

MOST_PAIRS = 5


def show_comparison(compared: Compared, console: Console) -> None:
    """Print the runs, the headlines and where the page is."""
    comparison = compared.comparison
    console.print(_table(comparison))
    for line in (*comparison.headlines, *comparison.warnings):
        console.print(line, markup=False, highlight=False)
    for pair in comparison.pairs[:MOST_PAIRS]:
        console.print(f"  {pair.sentence}", markup=False, highlight=False)
    for line in comparison.left_out:
        console.print(f"Left out: {line}", markup=False, highlight=False)
    path = compared.folder / PAGE_FILE
    console.print(f"Page     {path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Run      {compared.run_id} holds the same page", markup=False, highlight=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    """Narrow enough for 80 columns: whole names are on the page."""
    table = Table("#", "run", "group", title="Test part, 95% intervals", title_justify="left", box=SIMPLE)
    for name in ("accuracy", "AUROC", "params", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    facts = facts_table(comparison)
    parameters, latency = facts.columns.index("parameters"), facts.columns.index("latency")
    for row, costs in zip(comparison.rows, facts.rows, strict=True):
        accuracy, auroc = row.metrics["accuracy"], row.metrics["auroc"]
        table.add_row(
            str(row.number),
            f"{row.record.backbone} {row.record.run_id[:8]}",
            row.group,
            f"{100 * accuracy.value:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})%",
            f"{auroc.value:.3f}",
            costs[parameters].text,
            costs[latency].text,
            style="bold" if row.leads else "",
        )
    return table
