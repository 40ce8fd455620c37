from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from eyegender.tracking import sender as sender_module
from eyegender.tracking.client import upload_seconds, upload_timeout
from eyegender.tracking.errors import StoreFaultError
from eyegender.tracking.journal import Entry, Journal
from eyegender.tracking.sender import Sender


class FakeWriter:
    """Fails at the first `failures` calls, as if the server were unreachable."""

    run_id: str | None = "known"

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.seen, self.requests = failures, [], 0
        self.refuses: tuple[str, ...] = ()

    def apply(self, entry: Entry) -> None:
        self.apply_metrics([entry])

    def apply_metrics(self, entries: list[Entry]) -> None:
        self.requests += 1
        if self.requests <= self.failures:
            raise ConnectionError("postgresql://u:canary@h refused")
        if entries[0]["op"] in self.refuses:
            error = Exception("no")
            error.error_code = "INVALID_PARAMETER_VALUE"  # type: ignore[attr-defined]
            raise error
        self.seen += [entry["n"] for entry in entries]

    def responds(self) -> bool:
        return True

    def apply_artifacts(self, entries: list[Entry]) -> None:
        self.apply_metrics(entries)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "FIRST_PAUSE", 0.01)


def journal_with(folder: Path, *ops: str) -> Journal:
    journal = Journal(folder)
    for number, op in enumerate(ops):
        journal.append({"op": op, "n": number, **({"path": "m"} if op == "model" else {})})
    return journal


def run(journal: Journal, writer: Any, seconds: float = 10) -> bool:
    sender = Sender(journal, writer)
    sender.start()
    complete = sender.close(seconds)
    journal.close()
    return complete


def test_entries_arrive_in_order(tmp_path: Path) -> None:
    writer = FakeWriter()
    assert run(journal_with(tmp_path, "run", "metrics", "metrics", "tags", "metrics"), writer)
    assert writer.seen == [0, 1, 2, 3, 4]
    assert writer.requests == 4  # consecutive metrics are sent in one request


def test_sending_continues_after_the_first_entry_of_a_killed_process(tmp_path: Path) -> None:
    journal = journal_with(tmp_path, "run", "params", "run", "metrics")
    journal.mark_sent(journal.unsent(1)[0][0])
    writer, attached = FakeWriter(), []
    writer.run_id = None

    def attach(beginning: Entry) -> None:
        attached.append(beginning["n"])
        writer.run_id = "known"

    writer.attach = attach  # type: ignore[attr-defined]
    assert run(journal, writer)
    assert (attached, writer.seen) == ([0], [1, 2, 3])


def test_consecutive_files_are_sent_together(tmp_path: Path) -> None:
    writer = FakeWriter()
    assert run(journal_with(tmp_path, "run", "artifact", "artifact", "tags", "artifact"), writer)
    assert writer.seen == [0, 1, 2, 3, 4]
    assert writer.requests == 4


def test_everything_is_sent_once_the_store_is_reachable_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = FakeWriter(failures=3)
    assert run(journal_with(tmp_path, "run", "tags", "tags"), writer)
    assert writer.seen == [0, 1, 2]
    assert caplog.text.count("the store is unreachable") == 1  # logged once, not at each attempt
    assert "canary" not in caplog.text


def test_everything_stays_on_disk_if_the_store_is_unreachable(tmp_path: Path) -> None:
    journal = journal_with(tmp_path, "run", "tags")
    assert not run(journal, FakeWriter(failures=10**9), seconds=0.2)
    with Journal(tmp_path) as left:
        assert len(left.unsent(9)) == 2


def test_a_refused_entry_does_not_block_later_ones(tmp_path: Path) -> None:
    writer = FakeWriter()
    writer.refuses = ("tags",)
    assert run(journal_with(tmp_path, "run", "tags", "params"), writer)
    assert writer.seen == [0, 2]


class Upload(FakeWriter):
    """Accepts everything except the upload of one file."""

    def __init__(self, error: Exception, times: int = 10**9) -> None:
        super().__init__()
        self.error, self.times = error, times
        self.attempt = 0
        self.attempts: list[int] = []

    def apply(self, entry: Entry) -> None:
        if entry["op"] == "model" and len(self.attempts) < self.times:
            self.attempts.append(self.attempt)
            raise self.error
        super().apply(entry)


def test_a_failing_upload_is_retried_and_does_not_block_later_entries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Upload(TimeoutError("read timed out"))
    journal = journal_with(tmp_path, "run", "model", "tags", "end")
    sender = Sender(journal, writer)  # type: ignore[arg-type]
    sender.start()
    assert not sender.close(10)
    sender.journal.close()
    assert writer.seen == [0, 2, 3]
    assert writer.attempts == [0, 1, 2]  # each waits longer
    reason, repair = sender.missing()
    assert "upload of model m failed 3 times: read timed out" in reason
    assert repair is not None
    assert "client_max_body_size" in repair
    assert caplog.text.count("upload of model m failed") == 1
    # The model does not count as sent: another process sends it later.
    assert [entry["n"] for _, entry in Journal(tmp_path, writes=False).unsent(10)] == [1, 2, 3]
    again = FakeWriter()
    assert run(Journal(tmp_path), again)
    assert again.seen == [1, 2, 3]


def test_an_upload_that_succeeds_after_retries_is_complete(tmp_path: Path) -> None:
    writer = Upload(ConnectionError("reset by peer"), times=2)
    assert run(journal_with(tmp_path, "run", "model", "end"), writer)
    assert writer.seen == [0, 1, 2]
    assert len(Journal(tmp_path, writes=False).unsent(9)) == 0


@pytest.mark.parametrize(
    ("size", "attempt", "seconds"), [(0, 0, 20), (10**8, 0, 120), (10**8, 2, 480), (10**12, 2, 3600)]
)
def test_the_timeout_of_an_upload_depends_on_its_size(
    size: int, attempt: int, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    assert upload_seconds(size, attempt) == seconds
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5000")
    assert upload_seconds(0, 0) == 5000


def test_the_request_timeout_is_restored_after_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    with upload_timeout([tmp_path], 1):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "50"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "20"


class Shut(FakeWriter):
    """Accepts nothing until it is opened."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.shut = error, True

    def apply_metrics(self, entries: list[Entry]) -> None:
        if self.shut:
            raise self.error
        super().apply_metrics(entries)

    def responds(self) -> bool:
        return not self.shut


def mlflow_error(text: str, code: str, cause: Exception | None = None) -> Exception:
    error = MlflowException(text, ErrorCode.Value(code))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "repair"),
    [
        (mlflow_error("API request to endpoint /x failed with error code 401 != 200.", "UNAUTHENTICATED"), "login"),
        (mlflow_error("Permission denied", "PERMISSION_DENIED"), "login"),
        (mlflow_error("malformed", "BAD_REQUEST", sqlite3.DatabaseError("disk image is malformed")), "backup"),
        (mlflow_error("x", "TEMPORARILY_UNAVAILABLE", sqlite3.OperationalError("no such table: runs")), "backup"),
        (StoreFaultError("damaged", "restore a backup"), "backup"),
    ],
)
def test_permanent_faults_keep_everything_on_disk_and_state_the_repair(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, repair: str
) -> None:
    writer = Shut(error)
    sender = Sender(journal_with(tmp_path, "run", "metrics", "model", "end"), writer)  # type: ignore[arg-type]
    sender.start()
    begun = time.monotonic()
    assert not sender.close(60)
    sender.journal.close()
    assert time.monotonic() - begun < 30  # waiting would not help
    assert repair in str(sender.missing()[1])
    assert caplog.text.count("the store accepts nothing") == 1
    assert "unreachable" not in caplog.text
    assert len(Journal(tmp_path, writes=False).unsent(9)) == 4
    writer.shut = False
    assert run(Journal(tmp_path), writer)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_file_locks_everything_is_sent_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fails)
    writer = FakeWriter()
    assert run(journal_with(tmp_path, "run", "tags"), writer)
    assert run(Journal(tmp_path), writer)
    assert writer.seen == [0, 1]
    assert caplog.text.count("file locks do not work in") == 1
    assert "only after it has ended" in caplog.text


def test_a_sender_that_fails_is_not_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", fails)
    sender = Sender(journal_with(tmp_path, "run", "tags"), FakeWriter())  # type: ignore[arg-type]
    sender.start()
    assert not sender.close(10)
    sender.journal.close()
    assert "Input/output error" in sender.missing()[0]
    assert "sending has stopped" in caplog.text
