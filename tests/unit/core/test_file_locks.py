"""File systems without file locks, as on some clusters."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from eyegender.core import file_locks
from eyegender.core.cache import build_lock, translate_cache_errors
from eyegender.core.errors import UserError
from eyegender.core.file_locks import optional_file_lock
from eyegender.training.measurements import cached_measurement
from hydra_plugins.optuna_study._storage import Storage, storage_spec


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every lock fails, with this reason."""

    def fails(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", fails)
    monkeypatch.setattr(file_locks, "_warned", set())
    return os.strerror(request.param)


def test_missing_locks_are_reported_once_with_advice(
    tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with optional_file_lock(tmp_path / "x.lock", 1, "do this") as held:
            assert not held
    assert caplog.messages == [f"file locks do not work in {tmp_path} ({reason}); do this"]


def test_a_lock_of_another_process_is_not_a_missing_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        FileLock(tmp_path / "x.lock"),
        pytest.raises(Timeout),
        optional_file_lock(tmp_path / "x.lock", 0, "do this"),
    ):
        pass
    assert caplog.messages == []


def test_a_cache_without_locks_is_refused_with_advice(tmp_path: Path, reason: str) -> None:
    with (
        pytest.raises(UserError, match=f"decoded images need .* locks, got {reason} in .*; set EYEGENDER_CACHE"),
        translate_cache_errors("decoded images", tmp_path, 1),
        build_lock(tmp_path / "entry", "decoding"),
    ):
        pass
    with pytest.raises(UserError, match=f"got {reason} in .*; set EYEGENDER_CACHE"):
        cached_measurement("this machine", lambda _: True, dict, cache=tmp_path)
    assert not list(tmp_path.rglob("*.lock.*"))


def test_a_study_without_locks_continues_at_once(tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="hydra_plugins.optuna_study")
    store = Storage(storage_spec(f"sqlite:///{tmp_path}/study.db"))
    begun = time.monotonic()
    for _ in range(3):
        with store.lock("study") as held:
            assert not held
    assert time.monotonic() - begun < 5
    assert caplog.text.count(f"file locks do not work in {tmp_path} ({reason})") == 1
    store.close()
