"""A process that tracks many runs connects once, and looks for a run only where it may exist."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from eyegender.tracking import check
from eyegender.tracking.check import check_store_once
from eyegender.tracking.client import connect, connect_again
from eyegender.tracking.location import artifacts_beside, find_location
from eyegender.tracking.writer import KEY_TAG, RunWriter
from tests.stores import give_store

RUN = {"op": "run", "key": "k1", "run_id": None, "experiment": "eyes", "name": "first", "tags": {}, "time": 1}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    give_store(tmp_path)
    return tmp_path / "mlflow.db"


def writer(database: Path, *, is_new: bool) -> RunWriter:
    folder = database.parent / "run"
    folder.mkdir(exist_ok=True)
    return RunWriter(f"sqlite:///{database}", artifacts_beside(database), folder, is_new=is_new)


@pytest.mark.parametrize(("before", "after"), [(None, "true"), ("false", "false")])
def test_mlflow_reports_no_usage_unless_the_user_asks_for_it(
    database: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", before or "")
    if before is None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    connect(f"sqlite:///{database}")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == after


def test_one_client_per_database(database: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{database}"
    client = connect_again(uri)
    assert connect_again(uri) is client
    give_store(tmp_path / "other")
    assert connect_again(f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}") is not client
    database.replace(tmp_path / "away.db")
    give_store(tmp_path)  # another file of the same name
    again = connect_again(uri)
    assert again is not client
    assert again is connect_again(uri)


def test_a_store_in_order_is_checked_once_and_a_faulty_one_each_time(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Any] = []
    monkeypatch.setattr(check, "_in_order", set())
    monkeypatch.setattr(check, "check_store", checked.append)
    location = find_location(None, str(database.parent))
    for _ in range(3):
        check_store_once(location)
    assert checked == [location]

    def fault(_: Any) -> None:
        checked.append("fault")
        raise ValueError

    monkeypatch.setattr(check, "check_store", fault)
    for _ in range(2):
        with pytest.raises(ValueError):
            check_store_once(find_location("sqlite:////elsewhere.db"))
    assert checked[1:] == ["fault", "fault"]


def test_a_new_run_is_created_without_a_search_and_found_after_a_lost_answer(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = writer(database, is_new=True)
    create = first.client.create_run

    def lose(*arguments: Any) -> None:
        create(*arguments)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(first.client, "create_run", lose)
        patch.setattr(first.client, "search_runs", None)
        with pytest.raises(ConnectionError):
            first.apply(dict(RUN))
    first.apply(dict(RUN))
    second = writer(database, is_new=False)
    second.apply(dict(RUN))
    assert first.run_id == second.run_id
    runs = first.client.search_runs([str(first.experiment_id)], f"tags.`{KEY_TAG}` = 'k1'")
    assert [run.info.run_id for run in runs] == [first.run_id]
