"""Which precision and memory layout is quickest here: measured once per machine and task, then kept.

Which one wins depends on network, size and direction, not only on the machine. A choice once kept stays, so that two
equal runs on one machine compute the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from eyegender.data.cache_entry import told_in_one_line, write_synced
from eyegender.data.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ROUNDS = 3
_MARGIN = 0.9  # the first way stays unless another takes less than this share of its time: noise must not choose
_log = logging.getLogger(__name__)


def quickest(what: str, ways: Mapping[str, Callable[[], object]], cache: str | Path | None = None) -> str:
    """The name of the quickest way, from the cache if it was measured before.

    Each way runs once to warm up and then in turn with the others; its best time counts.

    Args:
        what: is measured: network, size, direction, device. Together with the machine it names the measurement.
        ways: by name; the first is preferred unless another takes less than 90% of its time.
        cache: folder, see `cache_folder`.
    """
    told = f"{what}; {machine()}; torch {torch.__version__}; {', '.join(ways)}"
    folder = cache_folder(cache) / "precision"
    path = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"
    with told_in_one_line("measured speeds", folder, 1000):
        folder.mkdir(exist_ok=True)
        with FileLock(f"{path}.lock"):
            kept = _kept(path)
            if kept is not None and kept in ways:
                return kept
            seconds = measure(ways)
            first, best = next(iter(ways)), min(seconds, key=lambda name: seconds[name])
            chosen = best if seconds[best] < _MARGIN * seconds[first] else first
            aside = path.with_name(f"{path.name}.{os.getpid()}")
            write_synced(aside, json.dumps({"what": told, "chosen": chosen, "seconds": seconds}, indent=1).encode())
            aside.replace(path)
    others = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items())
    _log.info("%s: %s is quickest here (%s)", what, chosen, others)
    return chosen


def measure(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Best seconds of each way, in turn; random states are left as they were.

    Without a GPU these are processor seconds of all threads: wall-clock time would measure who else is at work here.
    """
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    best: dict[str, float] = {}
    with torch.random.fork_rng():
        for round_ in range(_ROUNDS + 1):
            for name, way in ways.items():
                began = clock()
                way()
                if gpu:
                    torch.cuda.synchronize()
                if round_:
                    best[name] = min(best.get(name, float("inf")), clock() - began)
    return best


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


def _kept(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["chosen"])
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: measured anew
        return None
