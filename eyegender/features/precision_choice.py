"""Which precision and memory layout is quickest here: measured once per machine and task, then kept.

Which one wins depends on network, size and direction, not only on the machine. A choice once kept stays, so that two
equal runs on one machine compute the same numbers.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eyegender.features.kept_note import kept_note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eyegender.features.kept_note import Note

# Quick ways are measured more often: one disturbed second must not choose.
_ROUNDS, _MOST_ROUNDS, _SECONDS = 3, 10, 3.0
MARGIN = 0.9  # the first way stays unless another takes less than this share of its time: noise must not choose
_log = logging.getLogger(__name__)


def quickest(what: str, ways: Mapping[str, Callable[[], object]], cache: str | Path | None = None) -> str:
    """The name of the quickest way, from the cache if it was measured before.

    Each way runs once to warm up and then in turn with the others; its best time counts.

    Args:
        what: is measured: network, size, direction, device. Together with the machine it names the measurement.
        ways: by name; the first is preferred unless another takes less than 90% of its time.
        cache: folder, see `cache_folder`.
    """

    def measured() -> Note:
        seconds = measure(ways)
        first, best = next(iter(ways)), min(seconds, key=lambda name: seconds[name])
        return {"chosen": best if seconds[best] < MARGIN * seconds[first] else first, "seconds": seconds}

    told = f"{what}; {machine()}; torch {torch.__version__}; {', '.join(ways)}"
    note, new = kept_note(told, lambda found: found["chosen"] in ways, measured, cache)
    if new:
        others = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in note["seconds"].items())
        _log.info("%s: %s is quickest here (%s)", what, note["chosen"], others)
    return str(note["chosen"])


def measure(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Best seconds of each way, in turn; random states are left as they were.

    Without a GPU these are processor seconds: wall-clock time would measure who else is at work here.
    """
    best = dict.fromkeys(ways, float("inf"))
    rounds, spent = 0, 0.0
    with torch.random.fork_rng():
        for way in ways.values():
            way()
        while rounds < _ROUNDS or (rounds < _MOST_ROUNDS and spent < _SECONDS):
            for name, way in ways.items():
                began = clock()
                way()
                taken = clock() - began
                best[name], spent = min(best[name], taken), spent + taken
            rounds += 1
    return best


def clock() -> float:
    """Seconds that count: by the wall where a GPU works, once its queue is empty; else the processor's own."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> str:
    """Processor, cores for this process, threads of torch, and GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads, {gpu}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
