from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from eyegender.core.cache_limit import DEFAULT_SHARE, entry_sizes, limit_bytes, make_room
from eyegender.data.pixel_cache import mark_used
from eyegender.features.build import open_or_build
from eyegender.features.store import MANIFEST
from tests.unit.features.numbers import PICTURES, VIEWS, check_whole, entry


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Entries a, b and c of equal size, a used longest ago."""
    for age, name in enumerate("cba"):
        open_or_build(entry(tmp_path / "activations" / name))
        os.utime(tmp_path / "activations" / name / MANIFEST, (1000 - age, 1000 - age))
    return tmp_path / "activations"


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.is_dir())


@pytest.fixture
def size(store: Path) -> int:
    return entry_sizes(store)[store / "a"]


def test_what_fits_removes_nothing(store: Path, size: int) -> None:
    assert make_room(store, size, 4 * size, ())
    assert names(store) == ["a", "b", "c"]


def test_the_oldest_go_first_and_no_more_than_needed(store: Path, size: int) -> None:
    assert make_room(store, size, 3 * size, ())
    assert names(store) == ["b", "c"]


def test_use_makes_young(store: Path, size: int) -> None:
    mark_used(store / "a")
    assert make_room(store, size, 3 * size, ())
    assert names(store) == ["a", "c"]


def test_what_the_run_itself_reads_stays(store: Path, size: int) -> None:
    assert make_room(store, size, 3 * size, {store / "a"})
    assert names(store) == ["a", "c"]


def test_what_can_never_fit_removes_nothing(store: Path, size: int) -> None:
    assert not make_room(store, 5 * size, 4 * size, ())
    assert not make_room(store, size, 2 * size, {store / "a", store / "b"})
    assert names(store) == ["a", "b", "c"]


def test_an_entry_that_is_being_built_stays(store: Path, size: int) -> None:
    with FileLock(f"{store / 'a'}.lock"):
        assert make_room(store, size, 3 * size, ())
    assert names(store) == ["a", "c"]


def test_an_open_store_outlives_its_entry(store: Path) -> None:
    opened = open_or_build(entry(store / "a"))
    assert make_room(store, 0, 0, ())
    assert names(store) == []
    check_whole(opened)
    assert opened.shape[:2] == (PICTURES, VIEWS)


def test_the_limit_is_a_share_of_the_disk_unless_given(store: Path) -> None:
    assert limit_bytes(store, 1.5) == 1_500_000_000
    assert limit_bytes(store / "absent", None) == pytest.approx(DEFAULT_SHARE * shutil.disk_usage(store).free, rel=0.05)


def test_an_unfinished_entry_is_none_of_its_business(store: Path) -> None:
    unfinished = store / "d.building-1"
    unfinished.mkdir()
    (unfinished / MANIFEST).write_text("{}")
    assert unfinished not in entry_sizes(store)
