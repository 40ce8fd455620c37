"""The store under failure: killed builders, many builders, damage, full disks."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from eyegender.core.errors import UserError
from eyegender.core.progress import stoppable
from eyegender.data import pixel_cache
from eyegender.data.decode import to_pixels
from eyegender.data.folder import FolderReader
from eyegender.data.pixel_cache import CHECKSUMS, MANIFEST, PIXELS, open_pixel_store
from eyegender.data.readers import Samples

CLASSES = ["femaleeyes", "maleeyes"]

SCRIPT = textwrap.dedent("""
    import sys, time
    from eyegender.data import pixel_cache
    from eyegender.data.folder import FolderReader
    samples = FolderReader(sys.argv[1], ["femaleeyes", "maleeyes"]).read()
    if sys.argv[2] == "slow":
        whole = pixel_cache.to_pixels
        def slow(*arguments):
            print("decoding", flush=True)
            time.sleep(0.5)
            return whole(*arguments)
        pixel_cache.to_pixels = slow
    store = pixel_cache.open_pixel_store(samples, 16, "gray")
    import numpy, zlib
    print(zlib.crc32(store.read(numpy.arange(len(store))).tobytes()))
""")


def read(root: Path) -> Samples:
    return FolderReader(root, CLASSES).read()


def stored(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "pixels").iterdir() if not path.name.endswith(".lock"))


def test_entries_of_other_sets_make_room(
    folder: Callable[..., Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a limit, a thousand subsets of one data set would be a thousand copies of its images."""
    samples = read(folder())
    subsets = [samples.take(np.arange(first, first + 20)) for first in range(20)]
    one = 20 * (16 * 16 + 4) + 1000  # with a manifest
    for subset in subsets[:6]:
        open_pixel_store(subset, 16, "gray", max_gb=3 * one / 1e9)
    assert len(stored(cache)) == 3
    assert sum(path.stat().st_size for path in (cache / "pixels").rglob("*") if path.is_file()) <= 3 * one
    first = open_pixel_store(
        subsets[3], 16, "gray", max_gb=3 * one / 1e9
    )  # used again: more recently than the other two
    os.utime(first.folder / MANIFEST, (time.time() + 9, time.time() + 9))
    for subset in subsets[6:9]:
        open_pixel_store(subset, 16, "gray", max_gb=3 * one / 1e9)
    assert first.folder.name in stored(cache)
    assert not caplog.records


def test_activations_and_pixels_share_one_limit(folder: Callable[..., Path], cache: Path) -> None:
    old = cache / "activations" / "old"
    old.mkdir(parents=True)
    (old / MANIFEST).write_bytes(bytes(5000))
    os.utime(old / MANIFEST, (1, 1))
    open_pixel_store(read(folder()), 16, "gray", max_gb=14e-6)
    assert not old.exists()
    assert len(stored(cache)) == 1


def test_pixels_beyond_the_limit_are_reported_and_removed_when_another_run_needs_room(
    folder: Callable[..., Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = read(folder())
    store = open_pixel_store(samples, 16, "gray", max_gb=1e-9)
    assert "features.max_gb allows 1e-09 for the whole cache" in caplog.text
    assert len(store.read(np.arange(len(store)))) == len(samples)
    open_pixel_store(samples, 17, "gray", max_gb=1e-9)
    assert len(stored(cache)) == 1
    assert len(store.read(np.arange(len(store)))) == len(samples)  # an open store stays readable


def test_unfinished_entries_of_killed_builders_are_removed(folder: Callable[..., Path], cache: Path) -> None:
    for name in ("a.building-1", "b"):
        (cache / "pixels" / name).mkdir(parents=True)
        (cache / "pixels" / name / PIXELS).write_bytes(bytes(1000))
    (cache / "pixels" / "c.building-1").mkdir()
    with FileLock(f"{cache / 'pixels' / 'c'}.lock"):
        open_pixel_store(read(folder()), 16, "gray")
    assert [name for name in stored(cache) if len(name) < 32] == ["c.building-1"]


def test_rows_are_the_decoded_images(folder: Callable[..., Path]) -> None:
    samples = read(folder())
    store = open_pixel_store(samples, 40, "rgb")
    pixels = store.read(store.rows(samples.digests))
    for i in range(len(samples)):
        assert np.array_equal(pixels[i].transpose(1, 2, 0), np.asarray(samples.open(i)))


def test_the_order_of_rows_does_not_depend_on_the_listing(folder: Callable[..., Path]) -> None:
    samples = read(folder())
    turned = samples.take(np.arange(len(samples))[::-1])
    first, second = open_pixel_store(samples, 16, "gray"), open_pixel_store(turned, 16, "gray")
    assert first.folder == second.folder


def test_equal_images_are_stored_once(folder: Callable[..., Path]) -> None:
    root = folder(range(4), range(4))
    (root / "femaleeyes" / "copy.png").write_bytes((root / "femaleeyes" / "0.png").read_bytes())
    samples = read(root)
    store = open_pixel_store(samples, 16, "gray")
    assert (len(samples), len(store)) == (9, 8)


def test_each_size_and_color_mode_has_its_own_store(folder: Callable[..., Path]) -> None:
    samples = read(folder())
    assert len({open_pixel_store(samples, size, color).folder for size in (16, 17) for color in ("gray", "rgb")}) == 4


def test_unreadable_images_are_cached(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(range(4), range(4))
    (root / "maleeyes" / "9.png").write_bytes(b"no image")
    samples = read(root)
    bad = open_pixel_store(samples, 16, "gray").bad
    assert list(bad.values()) == ["not a JPEG, PNG, BMP or WebP image"]
    monkeypatch.setattr("eyegender.data.pixel_cache._build", lambda *_: pytest.fail("built again"))
    assert open_pixel_store(samples, 16, "gray").bad == bad


def test_a_stopped_build_leaves_no_entry(
    folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        raise StopError

    samples, decoded = read(folder(range(150), range(150))), []
    monkeypatch.setattr(pixel_cache, "_TASK", 2)
    monkeypatch.setattr(pixel_cache, "to_pixels", lambda *given: decoded.append(1) or to_pixels(*given))
    with stoppable(check), pytest.raises(StopError):
        open_pixel_store(samples, 16, "gray", tmp_path / "own")
    assert len(decoded) < len(samples)
    assert stored(tmp_path / "own") == []
    assert len(open_pixel_store(samples, 16, "gray", tmp_path / "own")) == len(samples)


def test_a_copy_in_another_process_reads_the_same(folder: Callable[..., Path]) -> None:
    import pickle

    store = open_pixel_store(read(folder()), 16, "gray")
    rows = np.array([3, 1, 2], dtype=np.int64)
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(rows), store.read(rows))


@pytest.mark.parametrize("harm", ["cut", "flip", "manifest", "no manifest", "checksums", "gone"])
def test_a_damaged_store_is_built_again(folder: Callable[..., Path], harm: str) -> None:
    samples = read(folder())
    store = open_pixel_store(samples, 16, "gray")
    before = store.read(np.arange(len(store)))
    pixels = store.folder / PIXELS
    if harm == "cut":
        os.truncate(pixels, pixels.stat().st_size - 1)
    elif harm == "flip":
        data = bytearray(pixels.read_bytes())
        data[0] ^= 255
        pixels.write_bytes(data)
    elif harm == "manifest":
        (store.folder / MANIFEST).write_text('{"format": 1, "shape"')
    elif harm == "no manifest":
        (store.folder / MANIFEST).unlink()
    elif harm == "checksums":
        (store.folder / CHECKSUMS).write_bytes(b"")
    else:
        pixels.unlink()
    again = open_pixel_store(samples, 16, "gray")
    assert np.array_equal(again.read(np.arange(len(again))), before)


def test_damage_during_a_run_is_reported_and_repaired_by_the_next_run(folder: Callable[..., Path]) -> None:
    samples = read(folder())
    store = open_pixel_store(samples, 16, "gray")
    with (store.folder / PIXELS).open("r+b") as file:
        file.write(bytes(256))
    with pytest.raises(UserError, match=r"row 0 .* changed on disk; run again"):
        store.read(np.array([0]))
    again = open_pixel_store(samples, 16, "gray")
    assert again.read(np.array([0])).any()


def test_the_manifest_of_another_store_is_refused(folder: Callable[..., Path]) -> None:
    samples = read(folder())
    store = open_pixel_store(samples, 16, "gray")
    manifest = json.loads((store.folder / MANIFEST).read_text())
    manifest["shape"][0] += 1
    (store.folder / MANIFEST).write_text(json.dumps(manifest))
    assert len(open_pixel_store(samples, 16, "gray")) == len(store)


def start(root: Path, pace: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root), pace],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip


def test_a_killed_builder_leaves_no_complete_entry(folder: Callable[..., Path], cache: Path) -> None:
    root = folder()
    killed = start(root, "slow")
    assert killed.stdout is not None
    assert killed.stdout.readline().startswith("decoding")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert [name for name in stored(cache) if ".building-" in name]
    samples = read(root)
    store = open_pixel_store(samples, 16, "gray")
    assert stored(cache) == [store.folder.name]
    assert store.read(np.arange(len(store))).any(axis=(1, 2, 3)).all()


def test_a_process_that_waits_for_a_killed_builder_builds_the_entry(folder: Callable[..., Path]) -> None:
    root = folder()
    killed = start(root, "slow")
    assert killed.stdout is not None
    killed.stdout.readline()
    waiting = start(root, "fast")
    time.sleep(1)
    assert waiting.poll() is None
    killed.kill()
    killed.communicate()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert out.strip().isdigit()


def test_sixteen_processes_share_one_build(folder: Callable[..., Path], cache: Path) -> None:
    root = folder()
    crowd = [start(root, "fast") for _ in range(16)]
    answers = [process.communicate(timeout=300) for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 16, answers
    assert len({out for out, _ in answers}) == 1
    assert len(stored(cache)) == 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> "Path":
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip() if mounted else 'not root'}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_reported_in_one_line_and_leaves_no_entry(folder: Callable[..., Path], tiny_disk: Path) -> None:
    samples = read(folder())
    with pytest.raises(UserError, match=r"decoded images need 2,007,200 bytes in .*disk/pixels, got a full disk"):
        open_pixel_store(samples, 224, "gray", tiny_disk)
    assert stored(tiny_disk) == []


def test_a_disk_without_room_for_anything(folder: Callable[..., Path], tiny_disk: Path) -> None:
    samples = read(folder())
    with suppress(OSError), (tiny_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    with pytest.raises(UserError, match=r"got a full disk"):
        open_pixel_store(samples, 16, "gray", tiny_disk)


def test_a_cache_that_may_not_be_written(folder: Callable[..., Path], cache: Path) -> None:
    samples = read(folder())
    (cache / "pixels").write_text("in the way")
    with pytest.raises(UserError, match=r"must be writable to .*pixels, got .*; set EYEGENDER_CACHE"):
        open_pixel_store(samples, 16, "gray")


def test_a_full_disk_without_root(folder: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"need 2,007,200 bytes in .*pixels, got a full disk; make room"):
        open_pixel_store(read(folder()), 224, "gray")
    assert stored(cache) == []


def test_an_interrupted_build_leaves_no_entry(
    folder: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eyegender.data.pixel_cache.to_pixels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_pixel_store(read(folder()), 16, "gray")
    assert stored(cache) == []


def test_resident_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """400 MiB are read in random order, but do not stay in memory."""
    script = textwrap.dedent("""
        import hashlib, resource, sys
        import numpy as np
        from PIL import Image
        from eyegender.data.pixel_cache import open_pixel_store
        from eyegender.data.readers import Samples
        n = 4000
        digests = tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(n))
        opener = lambda i: Image.new("L", (320, 320), i % 255 + 1)
        samples = Samples("made up", tuple(f"{i}" for i in range(n)), np.arange(n, dtype=np.uint8) % 2, digests, opener)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store = open_pixel_store(samples, 320, "gray")
        for start in range(0, n, 50):
            store.read(np.random.default_rng(start).integers(0, n, 50))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
