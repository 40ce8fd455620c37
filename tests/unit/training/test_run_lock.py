from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest
from lightning_fabric.utilities import rank_zero_only

from eyegender.core.errors import UserError
from eyegender.training.checkpoints import run_folder
from eyegender.training.interruptions import RunLock


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    with RunLock(refuse=True) as first:
        first.take(tmp_path, tmp_path / "." / "x" / "..")  # the same folder twice
        with (
            RunLock(refuse=True) as second,
            pytest.raises(UserError, match=f"another process is training the run in {tmp_path}"),
        ):
            second.take(tmp_path)
    with RunLock(refuse=True) as third:
        third.take(tmp_path)


def test_the_owner_of_a_trial_is_only_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunLock(refuse=True) as first, RunLock(refuse=False) as second:
        first.take(tmp_path)
        second.take(tmp_path)
    assert "the study has assigned the trial to this process" in caplog.text


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            with RunLock(refuse=True) as lock:
                lock.take(tmp_path)
                os.write(write, b"taken")
                signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(read, 5) == b"taken"
        with RunLock(refuse=True) as lock, pytest.raises(UserError):
            lock.take(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with RunLock(refuse=True) as lock:
        lock.take(tmp_path)


def test_other_ranks_of_the_same_run_take_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLock(refuse=True) as first:
        first.take(tmp_path)
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        with RunLock(refuse=True) as second:
            second.take(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS])
def test_a_file_system_without_locks_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    other = tmp_path / "other"
    other.mkdir()
    with RunLock(refuse=True) as lock:
        lock.take(tmp_path, other)
    assert caplog.text.count(f"({os.strerror(number)}); make sure that no second process resumes this run") == 1


def test_the_folder_of_a_run_is_the_one_above_its_checkpoints(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "checkpoints" / "last.ckpt") == tmp_path
    assert run_folder(tmp_path / "last.ckpt") == tmp_path
