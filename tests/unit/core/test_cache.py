from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from eyegender.core.cache import DEFAULT_SHARE, MANIFEST, entry_sizes, limit_bytes, make_room, mark_used
from eyegender.features.build import open_or_build
from tests.unit.features.numbered_entry import IMAGES, VIEWS, check_whole, entry


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Entries a, b and c of equal size; a is the least recently used."""
    for age, name in enumerate("cba"):
        open_or_build(entry(tmp_path / "activations" / name))
        os.utime(tmp_path / "activations" / name / MANIFEST, (1000 - age, 1000 - age))
    return tmp_path / "activations"


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.is_dir())


@pytest.fixture
def size(store: Path) -> int:
    return entry_sizes(store)[store / "a"]


def test_nothing_is_removed_if_there_is_room(store: Path, size: int) -> None:
    assert make_room(store, size, 4 * size, ())
    assert names(store) == ["a", "b", "c"]


def test_the_least_recently_used_entries_are_removed_and_no_more_than_needed(store: Path, size: int) -> None:
    assert make_room(store, size, 3 * size, ())
    assert names(store) == ["b", "c"]


def test_a_used_entry_is_the_last_to_be_removed(store: Path, size: int) -> None:
    mark_used(store / "a")
    assert make_room(store, size, 3 * size, ())
    assert names(store) == ["a", "c"]


def test_entries_of_this_run_are_not_removed(store: Path, size: int) -> None:
    assert make_room(store, size, 3 * size, {store / "a"})
    assert names(store) == ["a", "c"]


def test_nothing_is_removed_for_an_entry_that_can_never_fit(store: Path, size: int) -> None:
    assert not make_room(store, 5 * size, 4 * size, ())
    assert not make_room(store, size, 2 * size, {store / "a", store / "b"})
    assert names(store) == ["a", "b", "c"]


def test_an_entry_that_is_being_built_is_not_removed(store: Path, size: int) -> None:
    with FileLock(f"{store / 'a'}.lock"):
        assert make_room(store, size, 3 * size, ())
    assert names(store) == ["a", "c"]


def test_an_open_store_stays_readable_when_its_entry_is_removed(store: Path) -> None:
    opened = open_or_build(entry(store / "a"))
    assert make_room(store, 0, 0, ())
    assert names(store) == []
    check_whole(opened)
    assert opened.shape[:2] == (IMAGES, VIEWS)


def test_the_default_limit_is_a_share_of_the_disk(store: Path) -> None:
    assert limit_bytes(store, 1.5) == 1_500_000_000
    assert limit_bytes(store / "absent", None) == pytest.approx(DEFAULT_SHARE * shutil.disk_usage(store).free, rel=0.05)


def test_an_unfinished_entry_does_not_count(store: Path) -> None:
    unfinished = store / "d.building-1"
    unfinished.mkdir()
    (unfinished / MANIFEST).write_text("{}")
    assert unfinished not in entry_sizes(store)
