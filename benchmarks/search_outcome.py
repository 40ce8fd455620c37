"""What a simulated sweep came to, and the row of the table that tells it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEAD = ("policy", "s to 1.0", "s to 0.5", "off at 1/4", "off at 1/2", "off at 1", "> 1 off", "worker s")


@dataclass
class Outcome:
    """What a replayed sweep came to.

    Args:
        incumbents: after each report, the seconds, and the quality of the trial that the sweep would end with. This is
            the best value of its configuration in the epochs that the trial has trained, as a mean over the seeds:
            what a value owes to luck does not count.
        seconds: until the last worker ended.
        worker_seconds: sum over the workers of the seconds in which they trained.
        epochs: number of trained epochs.
        complete: number of trials that trained to their end.
        trials: number of trials that finished, and of those that are paused or running at the end.
    """

    incumbents: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    worker_seconds: float = 0.0
    epochs: int = 0
    complete: int = 0
    trials: Mapping[str, int] = field(default_factory=dict)

    def quality(self, seconds: float) -> float:
        """Of the incumbent at this time; 0 before the first report."""
        return next((quality for when, quality in reversed(self.incumbents) if when <= seconds), 0.0)

    def seconds_to(self, quality: float) -> float:
        """When an incumbent first had this quality; infinity if none had it."""
        return next((when for when, reached in self.incumbents if reached >= quality), float("inf"))


def row(name: str, found: Sequence[Outcome], best: float, reference: float) -> tuple[str, ...]:
    def seconds(values: list[float]) -> str:
        ordered = sorted(values)
        shown = (ordered[len(ordered) // 2], ordered[int(0.9 * (len(ordered) - 1))])
        return " / ".join("never" if value == float("inf") else f"{value:.0f}" for value in shown)

    def regret(share: float) -> str:
        return f"{100 * (best - statistics.median(each.quality(share * reference) for each in found)):.2f}"

    missed = sum(best - each.quality(float("inf")) > 0.01 for each in found) / len(found)
    return (
        name, seconds([each.seconds_to(best - 0.01) for each in found]),
        seconds([each.seconds_to(best - 0.005) for each in found]), regret(0.25), regret(0.5), regret(1.0),
        f"{100 * missed:.0f}%", f"{statistics.median(each.worker_seconds for each in found):.0f}",
    )  # fmt: skip
