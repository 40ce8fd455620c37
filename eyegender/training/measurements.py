"""Speed measurements, made once per machine and then read from the cache.

Equal runs on one machine must compute the same numbers, so a choice that was measured once does not change later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import torch

from eyegender.core.atomic_write import atomic_write
from eyegender.core.cache import cache_folder, translate_cache_errors
from eyegender.core.file_locks import file_lock
from eyegender.training.environment import cpu_name, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Measurement = dict[str, Any]

MARGIN = 0.9  # another option must take less than this share of the first one's time, so that noise does not choose
# Fast options are measured more often, so that one disturbed second does not choose.
_MIN_ROUNDS, _MAX_ROUNDS, _SECONDS = 3, 10, 3.0
# Of a run's estimated time, for each of two measurements at most: precision, and whether compiling pays.
SHARE = 0.01
# A run of fewer steps does not even measure the length of one, which takes `_FIRST_ROUNDS` steps and a warm-up.
LEAST_STEPS = 500
_FIRST_ROUNDS = 2
# So many times longer than the first option, warm-up included, another one may take.
_RESERVE = 1.5
_log = logging.getLogger(__name__)


def cached_measurement(
    what: str,
    is_valid: Callable[[Measurement], bool],
    measure: Callable[[], Measurement],
    cache: str | Path | None = None,
) -> tuple[Measurement, bool]:
    """The measurement of `what`, and whether it was made now; one process measures while others wait.

    Args:
        what: everything that the measurement depends on, the machine included.
        is_valid: whether a cached measurement is complete; KeyError and TypeError count as no.
        measure: makes the measurement.
        cache: cache folder, see `cache_folder`.

    Raises:
        UserError: the cache folder is not writable, or the disk is full.
    """
    folder = cache_folder(cache) / "precision"
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
    with translate_cache_errors("measured speeds", folder, 1000):
        folder.mkdir(exist_ok=True)
        with file_lock(path.with_name(f"{path.name}.lock")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                if is_valid(found):
                    return found, False
            except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
                pass
            measurement = {"what": what, **measure()}
            with atomic_write(path) as file:
                json.dump(measurement, file, indent=1)
    return measurement, True


def fastest(
    what: str,
    options: Mapping[str, Callable[[], object]],
    cache: str | Path | None = None,
    *,
    steps: float = math.inf,
) -> str:
    """The name of the fastest option; the first one is preferred unless another takes less than 90% of its time.

    A run for which measuring would take more than `SHARE` of its steps gets the first option, whatever the cache holds,
    so that equal runs are equal.

    Args:
        what: what is measured: network, size, direction, device. The machine is added.
        options: functions by name.
        cache: cache folder, see `cache_folder`.
        steps: how often the run will do what an option does.
    """
    first = next(iter(options))
    key = f"{what}; {machine()}; torch {torch.__version__}; {', '.join(options)}"
    limit = math.inf
    if steps < math.inf:
        if steps < LEAST_STEPS:
            return first
        step = step_seconds(f"{key}; {first}", options[first], cache)
        rounds = _MIN_ROUNDS * step["seconds"]
        limit = SHARE * steps * step["seconds"] - step["spent"]
        if limit < _RESERVE * len(options) * (step["spent"] - _FIRST_ROUNDS * step["seconds"] + rounds):
            return first

    def measured() -> Measurement:
        seconds = measure_seconds(options, limit)
        best = min(seconds, key=lambda name: seconds[name])
        return {"chosen": best if seconds[best] < MARGIN * seconds[first] else first, "seconds": seconds}

    measurement, is_new = cached_measurement(key, lambda found: found["chosen"] in options, measured, cache)
    if is_new:
        all_times = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in measurement["seconds"].items())
        _log.info("%s: %s is fastest here (%s)", what, measurement["chosen"], all_times)
    return str(measurement["chosen"])


def step_seconds(what: str, run: Callable[[], object], cache: str | Path | None = None) -> Measurement:
    """The `seconds` of one step, and the seconds `spent` on measuring it; measured once per `what`.

    Args:
        what: everything that the measurement depends on, the machine included.
        run: does a step.
        cache: cache folder, see `cache_folder`.
    """

    def measured() -> Measurement:
        begin = clock()
        with torch.random.fork_rng():
            run()
            seconds = min(_timed(run) for _ in range(_FIRST_ROUNDS))
        return {"seconds": seconds, "spent": clock() - begin}

    return cached_measurement(f"step of {what}", lambda found: found["seconds"] > 0 < found["spent"], measured, cache)[
        0
    ]


def _timed(run: Callable[[], object]) -> float:
    start = clock()
    run()
    return clock() - start


def measure_seconds(options: Mapping[str, Callable[[], object]], limit: float = math.inf) -> dict[str, float]:
    """The shortest time of each option in seconds, see `clock`; random states are left unchanged.

    Each option runs once to warm up and then in turn with the others.

    Args:
        options: functions by name.
        limit: seconds that all of this may take. The first option is measured at least once; another one that does not
            fit in any more is left out of the result.
    """
    best: dict[str, float] = {}
    warm_up: dict[str, float] = {}
    rounds, spent = 0, 0.0
    with torch.random.fork_rng():
        for name, run in options.items():
            if warm_up and spent + max(warm_up.values()) > limit:
                break
            warm_up[name] = _timed(run)
            spent += warm_up[name]
        measuring = 0.0
        while rounds < _MIN_ROUNDS or (rounds < _MAX_ROUNDS and measuring < _SECONDS):
            for name, first_run in warm_up.items():
                if best and spent + best.get(name, first_run) > limit:
                    return best
                seconds = _timed(options[name])
                best[name] = min(best.get(name, math.inf), seconds)
                spent, measuring = spent + seconds, measuring + seconds
            rounds += 1
    return best


def clock() -> float:
    """Wall-clock seconds after the GPU's queue is empty, or without a GPU the processor time of this process.

    On a CPU, wall-clock time would depend on the other programs that are running.
    """
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> str:
    """Processor, cores that this process may use, torch's threads, and GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cpu_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, {gpu}"
