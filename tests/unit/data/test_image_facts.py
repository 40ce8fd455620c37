"""Facts about files are looked up in one pass or one by one, and read by one thread or several, with equal results."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from random_images import encode, random_image

from eyegender.data import image_facts as module
from eyegender.data.image_facts import read_facts


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    (tmp_path / "images").mkdir()
    found = []
    for k in (3, 1, 2, 11, 7):
        path = tmp_path / "images" / f"{k}.png"
        path.write_bytes(encode(random_image(k, 10 + k)))
        os.utime(path, (time.time() - 60,) * 2)
        found.append(str(path))
    return [*found, str(tmp_path / "images" / "gone.png")]


@pytest.mark.parametrize("many", [1, 2000])
@pytest.mark.parametrize("long", [0.0, 10.0])
def test_every_way_finds_the_same(
    paths: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, many: int, long: float
) -> None:
    expected = [(10 + k, 10 + k) for k in (3, 1, 2, 11, 7)]
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_LONG", long)
    monkeypatch.setattr(module, "_TASK", 2)
    first = read_facts(paths, cache)
    assert [tuple(size) for size in first.sizes.tolist()] == [*expected, (0, 0)]
    assert first.errors == {5: "No such file or directory"}
    assert len(set(first.sha256)) == 6
    read: list[str] = []
    monkeypatch.setattr(module, "_read_task", lambda some: read.extend(some) or [module._read(path) for path in some])
    again = read_facts(paths, cache)
    assert read == paths[5:]
    assert (again.sha256, again.sizes.tolist(), again.errors) == (first.sha256, first.sizes.tolist(), first.errors)


@pytest.mark.parametrize("many", [1, 2000])
def test_a_changed_file_among_others_is_read_again(
    paths: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(module, "_MANY", many)
    first = read_facts(paths, cache)
    Path(paths[3]).write_bytes(encode(random_image(50, 60)))
    again = read_facts([*paths, paths[0]], cache)
    changed = [i for i in range(6) if again.sha256[i] != first.sha256[i]]
    assert changed == [3]
    assert again[3].width == 60
    assert again[6] == again[0]
