"""Disks that are really full: one line with path and bytes, and what was there before is whole."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import mlflow
import pytest

from eyegender.core.errors import UserError
from eyegender.tracking.journal import Journal
from eyegender.tracking.sender import send
from eyegender.training.checkpoints import load_checkpoint
from eyegender.training.run import train
from tests.composing import tiny_config
from tests.processes import Command

pytestmark = pytest.mark.integration

Mount = Callable[[str, str], Path]

HEAD_ALONE = ("model.finetune_depth=0", "run_test=false")


def test_outputs_that_fill_in_the_second_epoch_leave_the_first_ones_checkpoint(
    small_disk: Mount, tmp_path: Path
) -> None:
    disk = small_disk("outputs", "24m")  # two checkpoints of 9 MB fit, and writing a third aside does not
    with pytest.raises(
        UserError,
        match=r"cannot write checkpoint .*outputs/run/checkpoints/\w+.ckpt of \d,\d{3},\d{3} bytes .*ckpt_path=",
    ) as told:
        train(tiny_config(*HEAD_ALONE, f"tracking.root={tmp_path}/mlruns"), disk / "run")
    assert "\n" not in str(told.value)
    assert load_checkpoint(disk / "run/checkpoints/last.ckpt")["epoch"] == 0
    assert load_checkpoint(disk / "run/checkpoints/best.ckpt")["epoch"] == 0
    assert {path.name for path in (disk / "run/checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    [run] = runs(tmp_path)
    assert run.info.status == "FAILED"
    # With more room the run goes on in the same MLflow run.
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    checkpoint = f"ckpt_path={disk}/run/checkpoints/last.ckpt"
    train(tiny_config(*HEAD_ALONE, f"tracking.root={tmp_path}/mlruns", checkpoint), tmp_path / "again")
    [run] = runs(tmp_path)
    assert run.info.status == "FINISHED"


def test_outputs_that_fill_after_the_fit_are_told_as_well(small_disk: Mount, tmp_path: Path) -> None:
    disk = small_disk("outputs", "28m")  # two checkpoints and one aside, but not the network beside them
    config = tiny_config(*HEAD_ALONE, f"tracking.root={tmp_path}/mlruns", "trainer.max_epochs=1")
    (disk / "ballast").write_bytes(bytes(2_000_000))
    with pytest.raises(
        UserError, match=r"weights, metrics and figures need 9,\d{3},\d{3} bytes in .*outputs/run, got a full"
    ):
        train(config, disk / "run")
    assert load_checkpoint(disk / "run/checkpoints/best.ckpt")["epoch"] == 0


def test_a_tracking_store_that_fills_costs_nothing_but_the_exit_code(small_disk: Mount, tmp_path: Path) -> None:
    disk = small_disk("mlruns", "400k")
    with pytest.raises(
        UserError, match=r"metrics and artifacts of the run need [\d,]+ bytes in .*mlruns, got a full disk"
    ) as told:
        train(tiny_config(*HEAD_ALONE, f"tracking.root={disk}", "tracking.close_timeout=15"), tmp_path / "run")
    assert f"eyegender sync folder={tmp_path}/run" in str(told.value)
    assert (tmp_path / "run/metrics.json").is_file()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    send(tmp_path / "run", None)
    [run] = runs(tmp_path)
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{disk}/mlflow.db")
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss/val")] == [1, 2]


@pytest.mark.parametrize("full", ["pixels", "activations"])
def test_a_cache_that_is_too_small_is_named_with_what_it_needs(
    small_disk: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    disk = small_disk("cache", {"pixels": "32k", "activations": "256k"}[full])
    monkeypatch.setenv("EYEGENDER_CACHE", str(disk))
    with pytest.raises(
        UserError, match=rf"need \d{{2,3}},\d{{3}} bytes in .*cache/{full}, got a full disk; .*EYEGENDER_CACHE"
    ):
        train(tiny_config(*HEAD_ALONE, "features=on", "features.max_gb=1"), tmp_path / "run")
    assert [path for path in (disk / full).iterdir() if path.is_dir()] == []


def test_the_command_on_a_disk_without_room_for_its_own_log(small_disk: Mount, tmp_path: Path) -> None:
    disk = small_disk("disk", "8k")
    (disk / "ballast").write_bytes(bytes(4096))
    command = Command("eyegender.train", cwd=disk)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 2
    [line] = output.strip().splitlines()
    assert re.match(r"eyegender: cannot write .*disk.* \(No space left on device\)", line)


def test_a_journal_whose_disk_fills_keeps_whole_lines(small_disk: Mount) -> None:
    disk = small_disk("disk", "32k")
    with Journal(disk) as journal:
        (disk / "ballast").write_bytes(bytes(4096))
        entry = {"op": "tags", "text": "x" * 100}
        for _ in range(100):
            journal.append(entry)
        with pytest.raises(UserError, match=r"needs \d{3} bytes in .*tracking.jsonl, got No space left on device"):
            deque(map(journal.append, repeat(entry)), maxlen=0)  # until it raises
        written = len(journal.unsent(limit=10**6))
        assert written > 100
        assert journal.path.read_bytes().endswith(b"}\n")
        (disk / "ballast").unlink()
        journal.append({"op": "tags"})
        assert [entry["op"] for _, entry in journal.unsent(limit=10**6)] == ["tags"] * (written + 1)


def runs(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    return list(client.search_runs([client.get_experiment_by_name("eyegender").experiment_id]))
