"""A folder is listed once per process, until a file in it changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from eyegender.data import folder as module
from eyegender.data.folder import FolderReader


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_last", None)
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    for name in ("female", "male"):
        (tmp_path / "eyes" / name).mkdir(parents=True)
        for i in range(3):
            write(tmp_path / "eyes" / name / f"{i}.png", shade=40 * i + 3 * (name == "male"))
    return tmp_path / "eyes"


def write(path: Path, shade: int, age: float = 60) -> None:
    Image.new("L", (8, 8), shade).save(path)
    os.utime(path, (time.time() - age,) * 2)


def reader(root: Path) -> FolderReader:
    return FolderReader(root, ("female", "male"))


def test_an_unchanged_folder_gives_the_same_samples(root: Path) -> None:
    assert reader(root).read() is reader(root).read()
    assert FolderReader(root, ("male", "female")).read().classes == ("male", "female")


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "touch"])
def test_any_change_is_seen(root: Path, change: str) -> None:
    before, path = reader(root).read(), root / "male" / "1.png"
    if change == "add":
        write(root / "male" / "9.png", shade=200)
    elif change == "remove":
        path.unlink()
    elif change == "rename":
        path.rename(root / "male" / "7.png")
    elif change == "rewrite":
        write(path, shade=99, age=30)
    else:
        os.utime(path, (time.time() - 10,) * 2)
    after = reader(root).read()
    assert after is not before
    names = [name for name in after.names if name.startswith("male/")]
    expected = {
        "add": ["0", "1", "2", "9"], "remove": ["0", "2"], "rename": ["0", "2", "7"],
    }.get(change, ["0", "1", "2"])  # fmt: skip
    assert names == [f"male/{stem}.png" for stem in expected]
    assert (after.digests == before.digests) == (change == "touch")


def test_a_file_that_may_still_be_written_is_read_again(root: Path) -> None:
    write(root / "male" / "1.png", shade=77, age=0)
    assert reader(root).read() is not reader(root).read()
