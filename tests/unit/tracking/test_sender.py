from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eyegender.tracking import sender as sender_module
from eyegender.tracking.journal import Entry, Journal
from eyegender.tracking.sender import Sender


class FakeStore:
    """Refuses the first `away` calls, as a server that is not there."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.seen, self.requests = away, [], 0
        self.refuses: tuple[str, ...] = ()

    def apply(self, entry: Entry) -> None:
        self.apply_metrics([entry])

    def apply_metrics(self, entries: list[Entry]) -> None:
        self.requests += 1
        if self.requests <= self.away:
            raise ConnectionError("postgresql://u:canary@h refused")
        if entries[0]["op"] in self.refuses:
            error = Exception("no")
            error.error_code = "INVALID_PARAMETER_VALUE"  # type: ignore[attr-defined]
            raise error
        self.seen += [entry["n"] for entry in entries]

    def apply_artifacts(self, entries: list[Entry]) -> None:
        self.apply_metrics(entries)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "FIRST_PAUSE", 0.01)


def journal_with(folder: Path, *ops: str) -> Journal:
    journal = Journal(folder)
    for number, op in enumerate(ops):
        journal.append({"op": op, "n": number})
    return journal


def run(journal: Journal, store: Any, seconds: float = 10) -> bool:
    sender = Sender(journal, store)
    sender.start()
    complete = sender.close(seconds)
    journal.close()
    return complete


def test_all_arrives_in_order(tmp_path: Path) -> None:
    store = FakeStore()
    assert run(journal_with(tmp_path, "run", "metrics", "metrics", "tags", "metrics"), store)
    assert store.seen == [0, 1, 2, 3, 4]
    assert store.requests == 4  # metrics that follow each other travel together


def test_files_that_follow_each_other_travel_beside_each_other(tmp_path: Path) -> None:
    store = FakeStore()
    assert run(journal_with(tmp_path, "run", "artifact", "artifact", "tags", "artifact"), store)
    assert store.seen == [0, 1, 2, 3, 4]
    assert store.requests == 4


def test_a_store_that_was_away_gets_all_once_it_is_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore(away=3)
    assert run(journal_with(tmp_path, "run", "tags", "tags"), store)
    assert store.seen == [0, 1, 2]
    assert caplog.text.count("the store is away") == 1  # told once, not at each attempt
    assert "canary" not in caplog.text


def test_a_store_that_stays_away_leaves_all_on_disk(tmp_path: Path) -> None:
    journal = journal_with(tmp_path, "run", "tags")
    assert not run(journal, FakeStore(away=10**9), seconds=0.2)
    with Journal(tmp_path) as left:
        assert left.remaining() == 2


def test_what_the_store_refuses_for_good_does_not_block_what_follows(tmp_path: Path) -> None:
    store = FakeStore()
    store.refuses = ("tags",)
    assert run(journal_with(tmp_path, "run", "tags", "params"), store)
    assert store.seen == [0, 2]
