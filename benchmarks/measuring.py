"""What the benchmarks share: alternate runs, ratios with their spread, tables, and the page of results."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")


def alternate(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, all of them once per round, so that a change of the machine's load meets them all."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
            print(f"  round {round_ + 1}: {name} {taken[name][-1]:.3f}", file=sys.stderr, flush=True)
    return taken


def seconds_of(command: Sequence[str], cwd: Path, **env: str) -> float:
    """Wall-clock seconds of a command, its start included."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return taken


def environment(**more: str) -> dict[str, str]:
    """This process's environment, in which the checkout is imported whether or not it is installed."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and least to largest where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the header, as a markdown table that is also readable as it stands."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores, memory, GPU, system and versions, in one line."""
    import torch

    from eyegender.training.measurements import machine as processor

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{processor()}, {memory:.0f} GB, {platform.system()}, {versions}"


def _without_path(argument: str) -> str:
    """The argument without where this machine keeps its files: FILE or FOLDER instead."""
    name, equals, value = argument.rpartition("=")
    if not Path(value).is_absolute():
        return argument
    return f"{name}{equals}{'FOLDER' if Path(value).is_dir() else 'FILE'}"


def report(
    name: str,
    text: str,
    *,
    write: bool,
    heading: str | None = None,
    where: str | None = None,
    path: Path = RESULTS,
) -> None:
    """Print the text and, if asked, put it under its heading in RESULTS.md, with machine, load and command.

    Args:
        name: name of the module.
        text: the result.
        write: put it into the file.
        heading: heading of the section; the name of the module if it has only one.
        where: the machine, if another process measured on it.
        path: the file.
    """
    print(f"\n{text}", flush=True)
    if not write:
        return
    heading = heading or name
    command = " ".join(["python", "-m", f"benchmarks.{name}", *map(_without_path, sys.argv[1:])])
    load = os.getloadavg()[2]
    section = (
        f"## {heading}\n\n`{command}` on {where or machine()}; load average of the last 15 minutes {load:.1f}.\n\n"
        f"{text}\n"
    )
    old = path.read_text().split("\n## ") if path.exists() else ["# Results\n"]
    others = [part for part in old[1:] if part.partition("\n")[0] != heading]
    path.write_text("\n## ".join([old[0], *sorted([*others, section.removeprefix("## ")])]))
