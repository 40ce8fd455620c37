"""kill -9 in the middle of a write, many times: what was there before is whole, and nothing half-written is read."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from eyegender.tracking.journal import Journal
from eyegender.training.checkpoints import SafeCheckpointIO, load_checkpoint
from eyegender.training.outputs import write_json

# Of Python 3.12 on; the child forked here only writes files and is killed.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")]

KILLS = 12


def killed_while_writing(write: Callable[[int], None], begun: Callable[[int], bool]) -> None:
    """Call `write` again and again in a child, and kill it as soon as `begun` says of its pid that it writes."""
    child = os.fork()
    if child == 0:
        number = 0
        while True:
            write(number)
            number += 1
    end = time.monotonic() + 30
    while not begun(child) and time.monotonic() < end:
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def aside(folder: Path, name: str) -> Callable[[int], bool]:
    """Whether the half-written file lies there; a little later for every kill."""

    def begun(pid: int) -> bool:
        try:
            return (folder / f".{name}.{pid}").stat().st_size > 0
        except FileNotFoundError:
            return False

    return begun


def test_a_checkpoint(tmp_path: Path) -> None:
    def write(number: int) -> None:
        # Whole only if all of it is of one number.
        content = {"state_dict": {str(i): torch.full((200_000,), float(number)) for i in range(10)}, "epoch": number}
        SafeCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")

    write(0)
    cut = 0
    for _ in range(KILLS):
        killed_while_writing(write, aside(tmp_path, "last.ckpt"))
        cut += len(list(tmp_path.glob(".last.ckpt.*")))
        found = load_checkpoint(tmp_path / "last.ckpt")
        assert {float(t[0]) for t in found["state_dict"].values()} == {float(found["epoch"])}
        assert all(bool((t == t[0]).all()) for t in found["state_dict"].values())
    assert cut > 0  # else no kill came in the middle
    write(0)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]  # no litter of the killed stays


def test_metrics_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"

    def write(number: int) -> None:
        write_json(path, {"rows": [number] * 100_000})

    write(0)
    cut = 0
    for _ in range(KILLS):
        killed_while_writing(write, aside(tmp_path, "metrics.json"))
        cut += len(list(tmp_path.glob(".metrics.json.*")))
        rows = json.loads(path.read_text())["rows"]
        assert rows == [rows[0]] * 100_000
    assert cut > 0
    write(0)
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.json"]


def test_the_journal(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with Journal(tmp_path) as journal:
            for part in range(100):
                journal.append({"op": "tags", "number": number, "part": part, "text": "x" * 5000})
                journal.mark_sent(journal.path.stat().st_size)

    before = 0
    for _ in range(KILLS):
        size = (tmp_path / "tracking.jsonl").stat().st_size if before else 0
        killed_while_writing(write, partial(_grown, tmp_path, size))
        with Journal(tmp_path) as journal:
            (tmp_path / "tracking.sent").write_text("0")
            entries = [entry for _, entry in journal.unsent(limit=10**6)]
        whole = [entry for entry in entries if entry["op"] == "tags"]
        assert all(entry["text"] == "x" * 5000 for entry in whole)
        assert len(entries) - len(whole) <= KILLS  # a kill cuts one line
        assert len(whole) > before
        before = len(whole)


def _grown(folder: Path, size: int, _pid: int) -> bool:
    path = folder / "tracking.jsonl"
    return path.exists() and path.stat().st_size > size + 100_000
