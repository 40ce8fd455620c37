from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eyegender.tracking.journal import Journal


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
    assert [e["op"] for _, e in journal.unsent(10)] == ["tags"]  # not read while it is cut
    resumed = opened(tmp_path)
    resumed.append({"op": "tags", "n": 1})
    assert [(e["op"], e.get("n")) for _, e in resumed.unsent(10)] == [("tags", 0), ("cut", None), ("tags", 1)]


def test_a_damaged_cursor_sends_everything_again(opened: Callable[[Path], Journal], tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append({"op": "tags"})
    (tmp_path / "tracking.sent").write_text("x")
    assert journal.remaining() == 1
