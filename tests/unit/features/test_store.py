"""The store under failure: killed builders, many builders, damage, full disks."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.features.build import Build, TooLargeForTypeError, open_or_build
from eyegender.features.store import (
    ACTIVATIONS,
    CHECKSUMS,
    MANIFEST,
    STORE_POOL,
    ActivationStore,
    DamagedActivationsError,
)
from tests import processes
from tests.unit.features.numbered_entry import IMAGES, VIEWS, check_whole, entry, expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "activations" / "entry"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock"))


def not_again(_: torch.Tensor) -> torch.Tensor:
    raise AssertionError("computed again")


def start(folder: Path, speed: str) -> processes.Command:
    return processes.Command("tests.unit.features.numbered_entry", str(folder), speed, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_hold_the_computed_values(folder: Path, dtype: str) -> None:
    store = open_or_build(entry(folder, dtype))
    assert store.shape == (IMAGES, VIEWS, 4, 2, 3)
    found = store.read(np.array([3, 149, 3, 64]), np.array([0, 1, 1, 0]))
    assert found.dtype == getattr(torch, dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    whole = torch.from_numpy(np.concatenate([expected([i], v) for i, v in ((3, 0), (149, 1), (3, 1), (64, 0))]))
    assert torch.equal(found, whole.to(found.dtype))


def test_a_second_run_computes_nothing(folder: Path) -> None:
    open_or_build(entry(folder))
    check_whole(open_or_build(entry(folder, prefix=not_again)))


def test_reading_beyond_the_last_image_raises(folder: Path) -> None:
    store = open_or_build(entry(folder))
    with pytest.raises(IndexError):
        store.read(np.array([IMAGES]), 0)
    with pytest.raises(IndexError):
        store.read(np.array([-1]), 0)


def test_a_pickled_store_reads_the_same_file(folder: Path) -> None:
    check_whole(pickle.loads(pickle.dumps(open_or_build(entry(folder)))))


def test_several_builders_at_once_make_one_entry(folder: Path) -> None:
    processes = [start(folder, "slow") for _ in range(3)]
    lines = [process.communicate(timeout=300)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(output.count("computing") for output in lines) == [0, 0, 6]  # three chunks of two views, once
    assert left(folder) == ["entry"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_builder_is_cleaned_up_by_the_next(folder: Path, number: signal.Signals) -> None:
    process = start(folder, "slow")
    while not process.said() and process.returncode is None:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    assert len(left(folder)) == 1
    assert left(folder) != ["entry"]
    check_whole(open_or_build(entry(folder)))
    assert left(folder) == ["entry"]


def flip_a_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda folder: os.truncate(folder / ACTIVATIONS, 100),
    "no numbers": lambda folder: (folder / ACTIVATIONS).unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "truncated manifest": lambda folder: os.truncate(folder / MANIFEST, 10),
    "no checksums": lambda folder: (folder / CHECKSUMS).unlink(),
    "first row": lambda folder: flip_a_bit(folder / ACTIVATIONS, 5),
    "other number of images": lambda folder: (folder / MANIFEST).write_text(
        (folder / MANIFEST).read_text().replace(str(IMAGES), "7")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_built_again(folder: Path, damage: Callable[[Path], None]) -> None:
    open_or_build(entry(folder))
    damage(folder)
    with pytest.raises(DamagedActivationsError):
        ActivationStore(folder, IMAGES, VIEWS)
    check_whole(open_or_build(entry(folder)))


def test_damage_after_opening_is_one_line_and_rebuilt_by_the_next_run(folder: Path) -> None:
    store = STORE_POOL.add(open_or_build(entry(folder)))
    probed = {0, 299}
    row = next(i for i in range(300) if i not in probed and not store._checked[i])
    flip_a_bit(folder / ACTIVATIONS, row * 96)
    with pytest.raises(UserError, match=rf"row {row} of .* changed on disk; run again to rebuild them"):
        store.read(np.array([row // VIEWS]), row % VIEWS)
    assert STORE_POOL.open(folder, IMAGES, VIEWS) is None  # not the open one
    check_whole(open_or_build(entry(folder)))


def test_an_interrupted_build_leaves_nothing(folder: Path) -> None:
    calls = iter(range(10))

    def interrupt() -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_build(entry(folder, check=interrupt))
    assert left(folder) == []


def test_numbers_beyond_the_type_are_refused(folder: Path) -> None:
    with pytest.raises(TooLargeForTypeError, match=r"up to .* do not fit float16"):
        open_or_build(entry(folder, "float16", prefix=lambda x: x.float() * 1000))
    assert left(folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB that is really full."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    folder = small_disk / "activations" / "entry"
    with pytest.raises(UserError, match=r"need 30,000 bytes in .*activations, got a full disk; make room"):
        open_or_build(entry(folder))
    assert left(folder) == []


def test_the_size_is_known_before_it_is_written(folder: Path) -> None:
    build: Build = entry(folder, "float16")
    store = open_or_build(build)
    written = sum((folder / name).stat().st_size for name in (ACTIVATIONS, CHECKSUMS))
    assert build.nbytes == written
    assert store.nbytes == (folder / ACTIVATIONS).stat().st_size
