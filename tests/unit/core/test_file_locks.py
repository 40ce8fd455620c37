"""File systems of clusters that cannot lock a file."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from eyegender.core import file_locks
from eyegender.core.cache_entry import only_builder, told_in_one_line
from eyegender.core.errors import UserError
from eyegender.core.file_locks import held_where_possible
from eyegender.features.kept_note import kept_note
from hydra_plugins.optuna_study._spec import storage_spec
from hydra_plugins.optuna_study._store import Store


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every lock fails, with this reason."""

    def fails(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", fails)
    monkeypatch.setattr(file_locks, "_warned", set())
    return os.strerror(request.param)


def test_a_missing_lock_is_said_once_with_what_to_do(
    tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with held_where_possible(tmp_path / "x.lock", 1, "do this") as held:
            assert not held
    assert caplog.messages == [f"file locks do not work in {tmp_path} ({reason}); do this"]


def test_a_lock_that_another_holds_is_no_missing_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        FileLock(tmp_path / "x.lock"),
        pytest.raises(Timeout),
        held_where_possible(tmp_path / "x.lock", 0, "do this"),
    ):
        pass
    assert caplog.messages == []


def test_a_cache_without_locks_is_refused_with_another_place(tmp_path: Path, reason: str) -> None:
    with (
        pytest.raises(UserError, match=f"decoded pictures need .* locks, got {reason} in .*; set EYEGENDER_CACHE"),
        told_in_one_line("decoded pictures", tmp_path, 1),
        only_builder(tmp_path / "entry", "decoding"),
    ):
        pass
    with pytest.raises(UserError, match=f"got {reason} in .*; set EYEGENDER_CACHE"):
        kept_note("this machine", lambda _: True, dict, cache=tmp_path)
    assert not list(tmp_path.rglob("*.lock.*"))


def test_a_study_without_locks_goes_on_at_once(tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="hydra_plugins.optuna_study")
    store = Store(storage_spec(f"sqlite:///{tmp_path}/study.db"))
    begun = time.monotonic()
    for _ in range(3):
        with store.lock("study") as held:
            assert not held
    assert time.monotonic() - begun < 5
    assert caplog.text.count(f"file locks do not work in {tmp_path} ({reason})") == 1
    store.close()
