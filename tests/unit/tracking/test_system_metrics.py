"""System metrics are measured in the background, and nothing that happens to them reaches the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from eyegender.core.errors import UserError
from eyegender.tracking import tracker as tracker_module
from eyegender.tracking.journal import Journal
from eyegender.tracking.location import Location
from eyegender.tracking.sender import send
from eyegender.tracking.system_metrics import SystemMetrics
from eyegender.tracking.tracker import Tracker, last_epoch

CPU = "system/cpu_utilization_percentage"
NOWHERE = Location("http://127.0.0.1:9", None)  # nothing listens there


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def begin(location: Location, folder: Path) -> Tracker:
    folder.mkdir(exist_ok=True)
    return Tracker(location, folder, experiment="e", name="n", tags={})


def measured(folder: Path) -> list[dict[str, float]]:
    entries = [entry for _, entry in Journal(folder, writes=False).unsent(10_000, 0)]
    return [entry["values"] for entry in entries if CPU in entry.get("values", {})]


def test_a_store_that_is_away_loses_no_measurement_and_delays_nothing(location: Location, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tracker = begin(NOWHERE, folder)
    tracker.measure_system(0.01, dict)
    tracker.log_metrics({"accuracy/val": 0.5}, step=1)
    until(lambda: len(measured(folder)) > 3)
    assert not tracker.close("FINISHED", 0)
    found = measured(folder)
    assert all(0 <= values[CPU] <= 100 for values in found)
    assert all(values["system/process_memory_usage_megabytes"] > 1 for values in found)
    time.sleep(0.05)
    assert measured(folder) == found  # nothing after the end
    _, run_id = send(folder, location.uri)
    client = begin(location, tmp_path / "other").writer.client
    assert len(client.get_metric_history(run_id, CPU)) >= 1
    assert last_epoch(folder) == 1  # the steps of measurements are no epochs


def test_measurements_wait_for_the_first_epoch_which_is_compared_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "LONGEST_WAIT", 600)
    tracker = begin(NOWHERE, tmp_path / "run")
    tracker.measure_system(0.01, dict)
    until(lambda: len(tracker._waiting) > 2)
    assert measured(tmp_path / "run") == []
    tracker.log_metrics({"accuracy/val": 0.5}, step=1)
    until(lambda: measured(tmp_path / "run"))
    tracker.close("FINISHED", 0)
    entries = [entry for _, entry in Journal(tmp_path / "run", writes=False).unsent(10_000, 0)]
    names = [next(iter(entry["values"])) for entry in entries if entry["op"] == "metrics"]
    assert names[0] == "accuracy/val"
    assert CPU in names


def test_a_long_first_epoch_does_not_hold_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "LONGEST_WAIT", 0)
    tracker = begin(NOWHERE, tmp_path / "run")
    tracker.measure_system(0.01, dict)
    until(lambda: measured(tmp_path / "run"))
    tracker.close("FAILED", 0)


@pytest.mark.parametrize("error", [UserError("the disk is full"), RuntimeError("no GPU any more")])
@pytest.mark.filterwarnings("error")
def test_a_failing_measurement_ends_the_measurements_alone(error: Exception) -> None:
    calls = []

    def log_values(values: Mapping[str, float]) -> None:
        calls.append(values)
        raise error

    thread = SystemMetrics(log_values, 0.001, lambda: {"gpu_0_memory_usage_percentage": 5.0})
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(calls) == 1
    assert calls[0]["system/gpu_0_memory_usage_percentage"] == 5.0


def test_an_interval_of_zero_measures_nothing(tmp_path: Path) -> None:
    tracker = begin(NOWHERE, tmp_path / "run")
    tracker.measure_system(0, dict)
    tracker.log_metrics({"accuracy/val": 0.5}, step=1)
    time.sleep(0.05)
    tracker.close("FINISHED", 0)
    assert measured(tmp_path / "run") == []
