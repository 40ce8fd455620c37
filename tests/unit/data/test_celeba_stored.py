"""What was read of CelebA is stored: a later start gives the same, and any change is seen."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celeba_files import N, edit
from random_images import encode, random_image

from eyegender.core.errors import UserError
from eyegender.data import celeba as module
from eyegender.data.celeba import CelebaReader
from eyegender.data.readers import Samples, UnreadableImageError


@pytest.fixture
def home(celeba: Path) -> Path:
    """The data set; its files have not changed for a minute."""
    for path in (*celeba.iterdir(), *(celeba / "img_align_celeba").iterdir()):
        age(path)
    return celeba


def age(path: Path, seconds: float = 60) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def read(home: Path, **options: Any) -> Samples:
    """As in a new process."""
    module._last = None
    return CelebaReader(home, **options).read()


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "celeba").glob("*"))


def content(samples: Samples) -> dict[str, Any]:
    found = {key: list(getattr(samples, key) or ()) for key in ("names", "digests", "persons", "splits", "files")}
    assert samples.sizes is not None
    found |= {"labels": samples.labels.tolist(), "sizes": samples.sizes.tolist(), "classes": samples.classes}
    found["attributes"] = {name: values.tolist() for name, values in samples.attributes.items()}
    found["pixels"] = [samples.open(i).tobytes() for i in range(len(samples))]
    return found


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read_annotations", "read_facts"):
        monkeypatch.setattr(f"eyegender.data.celeba.{name}", lambda *_, **__: pytest.fail("read again"))


@pytest.mark.parametrize("options", [{}, {"eyes": "left"}, {"eyes": "right", "crop": 2.5}])
def test_a_later_start_gives_the_same_and_reads_no_table(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    first = read(home, **options)
    refuse(monkeypatch)
    again = read(home, **options)
    assert again is not first
    assert content(again) == content(first)
    assert {name: values.dtype for name, values in again.attributes.items()} == {
        name: values.dtype for name, values in first.attributes.items()
    }


def test_one_process_keeps_its_samples(home: Path) -> None:
    first = read(home)
    assert CelebaReader(home).read() is first
    assert CelebaReader(home, crop=0.5).read() is not first


def test_other_options_and_folders_are_other_entries(home: Path, cache: Path) -> None:
    for options in ({}, {"eyes": "left"}, {"crop": 0.5}, {"on_bad": "skip"}):
        read(home, **options)
    assert len(entries(cache)) == 4
    home.rename(home.with_name("moved"))
    read(home.with_name("moved"))
    assert len(entries(cache)) == 5


def test_the_least_recently_used_entries_are_removed(home: Path, cache: Path) -> None:
    read(home)
    [first] = entries(cache)
    for k in range(9):
        age(first, 0)
        for other in set(entries(cache)) - {first}:
            age(other, 10 * (10 - k))
        read(home, crop=1.1 + k / 10)
    assert len(entries(cache)) == 8
    assert first in entries(cache)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg +2", "got 2 as Attribute_0 of 000002.jpg in line 4"),
        ("list_attr_celeba.txt", "000002.jpg", "000001.jpg", "must name each image once, got 000001.jpg twice"),
        ("list_landmarks_align_celeba.txt", "30 40 70  40", "70 40 30  40", "left of the right one, got 1 of 24"),
        ("identity_CelebA.txt", "000003.jpg 0", "000003.jpg x", "line 3 must hold whole numbers .* got 'x'"),
        ("list_eval_partition.txt", "000003.jpg 0", "000003.jpg 7", "0, 1 or 2 .* got 7 of 000003.jpg in line 3"),
    ],
)
def test_a_fault_in_a_table_of_the_same_size_and_time_is_seen(
    home: Path, file: str, old: str, new: str, message: str
) -> None:
    if "identity" in file:
        edit(home / file, "000003.jpg 1", "000003.jpg 0")
    age(home / file)
    read(home)
    before = (home / file).stat()
    edit(home / file, old, new)
    os.utime(home / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (home / file).stat().st_size == before.st_size
    with pytest.raises(UserError, match=message):
        read(home)


def test_other_values_in_a_table_are_other_samples(home: Path) -> None:
    first = read(home)
    edit(home / "list_landmarks_align_celeba.txt", "30 40 70  40", "31 40 70  40")
    assert read(home).digests != first.digests
    edit(home / "list_landmarks_align_celeba.txt", "31 40 70  40", "30 40 70  40")
    assert content(read(home)) == content(first)
    (home / "identity_CelebA.txt").unlink()
    assert read(home).persons is None


@pytest.mark.parametrize("change", ["rewrite", "touch", "add", "remove", "link"])
def test_a_changed_image_is_seen(home: Path, tmp_path: Path, change: str) -> None:
    first, path = read(home), home / "img_align_celeba" / "000003.jpg"
    if change == "rewrite":
        before = path.stat()
        path.write_bytes(encode(random_image(99, 100), "JPEG").ljust(before.st_size, b"\0")[: before.st_size])
        age(path, 30)
        assert read(home).files != first.files
    elif change == "touch":
        age(path, 30)
        assert content(read(home)) == content(first)
    elif change == "add":
        path.with_name("extra.jpg").write_bytes(b"")
        assert content(read(home)) == content(first)
    elif change == "remove":
        path.unlink()
        with pytest.raises(UserError, match=r"got 1 of 24 missing \(000003.jpg first\)"):
            read(home)
    else:
        path.rename(tmp_path / "elsewhere.jpg")
        path.symlink_to(tmp_path / "elsewhere.jpg")
        with pytest.raises(UserError, match="got the link 000003.jpg to .*elsewhere.jpg"):
            read(home)


def test_images_that_may_still_be_written_are_not_stored(home: Path, cache: Path) -> None:
    age(home / "img_align_celeba" / "000003.jpg", 0)
    first = read(home)
    assert entries(cache) == []
    assert content(read(home)) == content(first)


def test_an_unreadable_face_is_not_stored(home: Path, cache: Path) -> None:
    path = home / "img_align_celeba" / "000003.jpg"
    path.unlink()
    path.symlink_to("gone.jpg")
    for _ in range(2):
        samples = read(home)
        with pytest.raises(UnreadableImageError, match="a broken link"):
            samples.open(list(samples.names).index("000003.jpg#left"))
    assert entries(cache) == []


def test_what_is_left_out_is_told_each_time(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "img_align_celeba" / "000005.jpg").unlink()
    edit(home / "list_landmarks_align_celeba.txt", "000007.jpg 30", "000007.jpg 90")
    told = []
    for _ in range(2):
        caplog.clear()
        assert len(read(home, on_bad="skip")) == 2 * (N - 2)
        told.append(caplog.messages)
    assert told[0] == told[1]
    assert "names 1 images that do not exist" in told[0][0]
    assert "1 faces have eyes outside the image or swapped" in told[0][1]


def damage(how: str) -> Callable[[bytes], bytes]:
    return {
        "empty": lambda data: b"",
        "truncated": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 1]) + data[len(data) // 3 + 1 :],
        "text": lambda data: b"no archive" * 1000,
        "pickled": lambda data: pickle.dumps({"names": ["a"]}),
    }[how]


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped", "text", "pickled"])
def test_a_damaged_entry_is_built_again(home: Path, cache: Path, how: str) -> None:
    first = content(read(home))
    [path] = entries(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(how)(whole))
    assert content(read(home)) == first
    assert len(path.read_bytes()) == len(whole)  # equal but for the times in the archive


def test_an_entry_of_other_arrays_is_built_again(home: Path, cache: Path) -> None:
    first = content(read(home))
    [path] = entries(cache)
    with np.load(path) as stored:
        arrays = dict(stored)
    for name, wrong in (("rows", arrays["rows"] + N), ("boxes", arrays["boxes"][:3]), ("names", arrays["rows"])):
        np.savez(path, **{**arrays, name: wrong})
        assert content(read(home)) == first
    del arrays["persons"]
    np.savez(path, **arrays)
    assert content(read(home)) == first


def test_a_full_disk_is_told_and_leaves_nothing(
    home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: Any, **_: object) -> None:
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = content(read(home, cache=home.with_name("other")))
    monkeypatch.setattr("numpy.savez", full)
    assert content(read(home)) == expected
    assert "could not be stored" in caplog.text
    assert "No space left on device" in caplog.text
    assert entries(cache) == []


def test_a_folder_that_may_not_be_written_is_told(home: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir()
    (cache / "celeba").write_text("in the way")
    assert len(read(home)) == 2 * N
    assert "could not be stored" in caplog.text


def test_a_cache_that_may_only_be_read_still_serves(home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content(read(home))
    refuse(monkeypatch)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.utime", read_only)
    assert content(read(home)) == first
    assert len(entries(cache)) == 1


def test_several_processes_at_once(home: Path, cache: Path) -> None:
    script = (
        "import sys; from eyegender.data.celeba import CelebaReader\n"
        "samples = CelebaReader(sys.argv[1]).read(); print(samples.digests[0], samples.digests[-1], len(samples))"
    )
    command = [sys.executable, "-c", script, str(home)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {process.communicate()[0] for process in processes}
    samples = read(home)
    assert told == {f"{samples.digests[0]} {samples.digests[-1]} {len(samples)}\n"}
    assert len(entries(cache)) == 1  # and no temporary file
