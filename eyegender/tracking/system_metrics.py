"""Measures how much of the machine a run uses, in the background: processor, memory and GPU."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.tracking.names import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

MEGABYTE = 1e6
POINTS = 100  # from then on the pauses grow, so that a run of days has hundreds of points and not tens of thousands


class SystemMetrics(threading.Thread):
    """Measures at intervals, the first time after one interval, and hands each measurement on.

    A measurement takes less than a millisecond. Whatever goes wrong ends the measurements and never the run.

    Args:
        log_values: receives each measurement, by the names that MLflow's own system metrics have.
        interval: seconds between two measurements, more than 0; more in a run that takes over a hundred of them.
        gpu_usage: measures the GPUs, by names without the prefix `system/`; empty without a GPU.
    """

    def __init__(
        self,
        log_values: Callable[[Mapping[str, float]], None],
        interval: float,
        gpu_usage: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        super().__init__(name="system metrics", daemon=True)
        self.log_values, self.interval, self.gpu_usage = log_values, interval, gpu_usage
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the measurements; nothing is handed on after this returns."""
        self._stopped.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        import psutil

        process, began = psutil.Process(), time.monotonic()
        psutil.cpu_percent()  # each later call measures since the one before
        try:
            while not self._stopped.wait(max(self.interval, (time.monotonic() - began) / POINTS)):
                memory = psutil.virtual_memory()
                values = {
                    "cpu_utilization_percentage": psutil.cpu_percent(),
                    "system_memory_usage_megabytes": memory.used / MEGABYTE,
                    "system_memory_usage_percentage": memory.percent,
                    "process_memory_usage_megabytes": process.memory_info().rss / MEGABYTE,
                    **self.gpu_usage(),
                }
                self.log_values({SYSTEM + name: value for name, value in values.items()})
        except UserError as error:  # the disk is full, which the run itself reports
            log.debug("no more system metrics: %s", error)
        except Exception:
            log.warning("no more system metrics", exc_info=True)
