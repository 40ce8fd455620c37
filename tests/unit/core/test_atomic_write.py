from __future__ import annotations

import math
from pathlib import Path

import pytest

from eyegender.core.atomic_write import atomic_write
from eyegender.training.outputs import write_json


def test_a_value_that_json_cannot_hold_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with atomic_write(tmp_path / "x", "wb") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_of_a_killed_process_is_removed_by_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".x.12345").touch()
    with atomic_write(tmp_path / "x") as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
