from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eyegender.tracking.client import connect
from eyegender.tracking.journal import JOURNAL, Journal
from eyegender.tracking.location import Location
from eyegender.tracking.sender import pending, send

# Written by an earlier version: the format must stay readable.
EARLIER = """\
{"op":"run","key":"d24b633d","run_id":null,"experiment":"eyegender","name":"n","tags":{"data.source":"folder"},"uri":"http://127.0.0.1:9","artifacts":null,"time":1795771817425}
{"op":"params","values":{"model.name":"m"},"time":1795771817436}
{"op":"metrics","values":{"val/loss":1.0},"step":1,"time":1795771817436}
{"op":"metrics","values":{"val/loss":0.5},"step":2,"time":1795771817438}
{"op":"dataset","name":"d","digest":"x","source":"/d","profile":"{}","time":1795771817438}
{"op":"artifact","path":"note.txt","to":null,"time":1795771817442}
{"op":"end","status":"FINISHED","time":1795771817442}
"""


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Journal]]:
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(Journal(folder))


def test_entries_are_read_once_and_in_order(opened: Callable[[Path], Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(5):
        journal.append({"op": "tags", "n": number})
    first = journal.unsent(3)
    assert [entry["n"] for _, entry in first] == [0, 1, 2]
    journal.mark_sent(first[-1][0])
    assert [entry["n"] for _, entry in opened(tmp_path).unsent(10)] == [3, 4]  # another process sees the same


def test_an_incomplete_line_does_not_damage_later_lines(opened: Callable[[Path], Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append({"op": "tags", "n": 0})
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"op":"metri')
    assert [e["op"] for _, e in journal.unsent(10)] == ["tags"]  # not read while it is incomplete
    resumed = opened(tmp_path)
    resumed.append({"op": "tags", "n": 1})
    assert [(e["op"], e.get("n")) for _, e in resumed.unsent(10)] == [("tags", 0), ("cut", None), ("tags", 1)]


def test_a_damaged_cursor_sends_everything_again(opened: Callable[[Path], Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append({"op": "tags"})
    (tmp_path / "tracking.sent").write_text("x")
    assert len(journal.unsent(9)) == 1


def test_a_journal_of_an_earlier_version_is_sent(location: Location, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "note.txt").write_text("hello")
    (folder / JOURNAL).write_text(EARLIER)
    assert pending(tmp_path) == [folder]
    entries, run_id = send(folder, location.uri)
    assert entries == 7
    client = connect(location.uri)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1795771817442)
    assert (run.data.params, run.data.metrics) == ({"model.name": "m"}, {"val/loss": 0.5})
    assert run.data.tags["eyegender.key"] == "d24b633d"
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]
    assert run.inputs.dataset_inputs[0].dataset.name == "d"
    assert pending(tmp_path) == []
