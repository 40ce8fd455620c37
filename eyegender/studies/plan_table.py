"""The plan of a sweep as a table of at most 80 columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eyegender.core.command_line.durations import duration_text
from eyegender.features.cut_choice import IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 80


@dataclass(frozen=True)
class PlanRow:
    """Trials with one depth.

    Args:
        depth: number of stages that they train.
        trials: expected number of them.
        start: number of frozen stages whose output they read; 0 for the images.
        source: number of frozen stages from whose output the stored one is computed; 0 for the images.
        chance: probability that their own output is stored, 0..1; 0 if it is not kept.
        compute: seconds to compute it.
        store: seconds to write it.
        epoch: seconds of an epoch, as planned.
        epoch_without: seconds of an epoch that starts from the images.
        nbytes: bytes that it takes; 0 if it is not kept.
        seconds: expected seconds of all these trials, without `compute` and `store`.
    """

    depth: int
    trials: float
    start: int
    source: int
    chance: float
    compute: float
    store: float
    epoch: float
    epoch_without: float
    nbytes: float
    seconds: float

    @property
    def total(self) -> float:
        """Expected seconds, those to store included."""
        return self.seconds + self.chance * (self.compute + self.store)


@dataclass
class PlanTable:
    """All rows of a plan.

    Args:
        trials: expected number of trials.
        seconds: expected seconds of all of them.
        without: the same without stored activations.
        limit: bytes that may be stored.
        ends_early: whether trials may end before their last epoch, so that the seconds are the most that they take.
    """

    trials: float
    seconds: float
    without: float
    limit: float
    ends_early: bool = False
    parts: list[tuple[str, Sequence[PlanRow]]] = field(default_factory=list)

    def add(self, label: str, rows: Sequence[PlanRow]) -> None:
        """Add the trials of one kind; `label` tells the kinds apart and is empty if there is only one."""
        self.parts.append((label, rows))

    def lines(self) -> list[str]:
        """The table, one text per line."""
        nbytes = sum(row.nbytes for _, rows in self.parts for row in rows)
        with_stored, without = (duration_text(seconds, tenths=False) for seconds in (self.seconds, self.without))
        found = [
            f"plan: {_number(self.trials)} trials in {'at most ' if self.ends_early else ''}{with_stored}; "
            f"{without} without stored activations",
            f"stored for the whole sweep: {_gigabytes(nbytes)} of at most {_gigabytes(max(0.0, self.limit))} GB",
        ]
        head = _cells("depth", "trials", "reads", "compute s", "store s", "epoch s", "without", "GB", "total s")
        for label, rows in self.parts:
            found += [f"  {label}"[:WIDTH]] if label else []
            found.append(head)
            for row in rows:
                found.append(
                    _cells(
                        str(row.depth),
                        _number(row.trials),
                        "images" if row.start == IMAGES else f"stage {row.start}",
                        _seconds(row.compute) if row.nbytes else "-",
                        _seconds(row.store) if row.nbytes else "-",
                        _seconds(row.epoch),
                        _seconds(row.epoch_without),
                        _gigabytes(row.nbytes) if row.nbytes else "-",
                        _seconds(row.total),
                    )
                )
        found.append(
            _cells("all", _number(self.trials), "", "", "", "", "", f"{nbytes / 1e9:.3f}", _seconds(self.seconds))
        )
        return found


def _cells(*cells: str) -> str:
    widths = (7, 7, 10, 10, 9, 9, 9, 8, 9)
    return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value - round(value)) < 0.005 else f"{value:.2f}"


def _gigabytes(nbytes: float) -> str:
    return f"{nbytes / 1e9:.3f}" if nbytes < 1e10 else f"{nbytes / 1e9:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
