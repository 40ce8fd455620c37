"""How long a GPU idles between the kernels of a tracked run, and what the host did meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytorch_lightning as pl
import torch

from benchmarks.gpu_sizes import fresh_memory, synchronized
from benchmarks.gpu_training import EnoughError, tracked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.gpu_sizes import Sizes

ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
ON_HOST = {"cpu_op", "cuda_runtime", "cuda_driver", "user_annotation"}
SHOWN = 4  # longest gaps


class Event(NamedTuple):
    """Something that ran from `start` to `end`, in microseconds."""

    start: float
    end: float
    name: str
    kind: str


class Gap(NamedTuple):
    """The device did nothing from `start` to `end`, in microseconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def idle(events: Sequence[Event]) -> tuple[float, list[Gap]]:
    """The share of the time from the first event to the last in which none ran, and the gaps, the longest first."""
    gaps, ordered = [], sorted(events)
    if not ordered:
        return 0.0, []
    reached = ordered[0].start
    for event in ordered:
        if event.start > reached:
            gaps.append(Gap(reached, event.start))
        reached = max(reached, event.end)
    whole = reached - ordered[0].start
    share = sum(gap.length for gap in gaps) / whole if whole else 0.0
    return share, sorted(gaps, key=lambda gap: -gap.length)


def during(gap: Gap, host: Sequence[Event]) -> str:
    """CUDA's calls, the outermost operators and the optimizer in a gap, each with its share of it."""
    host = [event for event in host if event.start < gap.end and event.end > gap.start]
    calls = [event for event in host if event.kind.startswith("cuda")]
    operators = [event for event in host if event.kind == "cpu_op"]
    parts = [event for event in host if event.kind == "user_annotation"]  # the step of the optimizer
    named = [*_shares(gap, calls), *_shares(gap, operators), *_shares(gap, parts)]
    return ", ".join(named) or "between operators"


def _shares(gap: Gap, events: Sequence[Event]) -> list[str]:
    shares: dict[str, float] = {}
    reached = gap.start
    for event in sorted(events, key=lambda event: (event.start, -event.end)):
        start, end = max(event.start, reached), min(event.end, gap.end)
        if end > start:  # an event inside another one is part of it
            shares[event.name] = shares.get(event.name, 0.0) + (end - start) / gap.length
            reached = end
    longest = sorted(shares.items(), key=lambda item: -item[1])[:2]
    return [f"{name} {share:.0%}" for name, share in longest if share >= 0.05]


def events_of(trace: dict[str, Any]) -> list[Event]:
    """The events of a profile in Chrome's format that have a duration."""
    return [
        Event(float(e["ts"]), float(e["ts"]) + float(e["dur"]), str(e["name"]), str(e.get("cat", "")))
        for e in trace["traceEvents"] if e.get("ph") == "X" and "dur" in e
    ]  # fmt: skip


def launching_threads(trace: dict[str, Any]) -> list[Event]:
    """The host's events of the threads that launch kernels: not of the one that loads batches ahead."""
    host = [e for e in trace["traceEvents"] if e.get("cat") in ON_HOST and e.get("ph") == "X"]
    counts = Counter((e.get("pid"), e.get("tid")) for e in host)
    busy = {thread for thread, count in counts.items() if count >= 0.2 * max(counts.values())}
    return events_of({"traceEvents": [e for e in host if (e.get("pid"), e.get("tid")) in busy]})


@dataclass
class Profile(pl.Callback):
    """Profiles some steps of each of the first two epochs, then ends the run.

    Args:
        skip: steps of an epoch before the profile.
        steps: profiled steps.
        path: file for a profile.
    """

    skip: int
    steps: int
    path: Path
    traces: list[dict[str, Any]] = field(default_factory=list)  # by epoch
    seconds: list[float] = field(default_factory=list)  # of the profiled steps, by epoch
    _profiler: torch.profiler.profile | None = field(default=None, repr=False)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        number = int(arguments[-1]) + 1
        skip = min(self.skip, int(trainer.num_training_batches) - self.steps - 1)
        if number == skip:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
            self.seconds.append(-synchronized())
        elif number == skip + self.steps and self._profiler is not None:
            self.seconds[-1] += synchronized()
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self.path))
            self.traces.append(json.loads(self.path.read_text()))
            self.path.unlink()
            if len(self.traces) == 2:
                raise EnoughError


def gaps(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """The idle share of the GPU and its longest gaps, in an epoch that reads the host's memory and in a later one."""
    gpu = torch.cuda.is_available()
    yield (
        "table", "What the device waits for in a tracked run",
        ("network and size", "epoch", "ms per step", "device idle", "gaps above 20 us per step",
         "waits of the host per step", "ms in them per step", "copies from and to the host per step"),
    )  # fmt: skip
    longest, steps = [], sizes.profiled
    for case in sizes.cases:
        fresh_memory()
        profile = Profile(sizes.warm_up, steps, folder / "trace.json")
        tracked(case, sizes.batches[0], folder, profile)
        for epoch, (trace, seconds) in enumerate(zip(profile.traces, profile.seconds, strict=True), 1):
            events, host = events_of(trace), launching_threads(trace)
            on_device = [e for e in events if e.kind in (ON_DEVICE if gpu else {"cpu_op"})]
            if not on_device:
                raise RuntimeError("the profiler recorded no kernel; torch's profiler needs CUPTI")
            share, found = idle(on_device)
            waits = [e for e in events if e.kind in {"cuda_runtime", "cuda_driver"} and "Synchronize" in e.name]
            copies = [e for e in events if e.kind == "gpu_memcpy" and ("HtoD" in e.name or "DtoH" in e.name)]
            name = f"{case[0]}@{case[1]}"
            yield (
                "row",
                (name, str(epoch), f"{1000 * seconds / steps:.1f}", f"{share:.1%}",
                 f"{sum(gap.length > 20 for gap in found) / steps:.1f}", f"{len(waits) / steps:.1f}",
                 f"{sum(e.end - e.start for e in waits) / 1000 / steps:.2f}", f"{len(copies) / steps:.1f}"),
            )  # fmt: skip
            longest += [(name, str(epoch), f"{gap.length / 1000:.2f}", during(gap, host)) for gap in found[:SHOWN]]
    yield "table", "The longest gaps", ("network and size", "epoch", "ms", "what the host did")
    for row in longest:
        yield "row", row
    what = "" if gpu else " Without a GPU, operators stand for kernels."
    yield (
        "note",
        f"{sizes.profiled} steps of {sizes.batches[0]} images, profiled, which slows the host.{what}",
    )
