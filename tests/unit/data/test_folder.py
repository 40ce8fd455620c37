import os
from collections.abc import Callable
from pathlib import Path

import pytest
from random_images import encode, random_image

from eyegender.core.errors import UserError
from eyegender.data.folder import FolderReader
from eyegender.data.readers import UnreadableImageError

CLASSES = ["femaleeyes", "maleeyes"]


def test_samples_are_sorted_and_labeled(folder: Callable[..., Path]) -> None:
    samples = FolderReader(folder(range(3), range(2)), CLASSES).read()
    assert samples.names == tuple(f"femaleeyes/{n}.png" for n in range(3)) + tuple(
        f"maleeyes/{n}.png" for n in range(2)
    )
    assert samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert samples.sizes is not None
    assert samples.sizes.tolist() == [[40, 40]] * 5
    assert samples.open(4).size == (40, 40)


def test_any_two_class_names_in_the_order_of_the_labels(folder: Callable[..., Path]) -> None:
    samples = FolderReader(folder(range(2), range(3)), ["maleeyes", "femaleeyes"]).read()
    assert samples.classes == ("maleeyes", "femaleeyes")
    assert dict(zip(samples.names, samples.labels, strict=True))["maleeyes/0.png"] == 0


@pytest.mark.parametrize("files", [0, 1])
def test_a_class_of_fewer_than_two_is_refused(folder: Callable[..., Path], files: int) -> None:
    root = folder(range(files), range(4))
    with pytest.raises(UserError, match=r"each class needs two images or more.*femaleeyes"):
        FolderReader(root, CLASSES).read()


def test_missing_root_and_class_are_named(folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root must be a folder that exists, got .*nowhere"):
        FolderReader(tmp_path / "nowhere", CLASSES).read()
    with pytest.raises(UserError, match=r"without 'women' \(folders there: femaleeyes, maleeyes\)"):
        FolderReader(folder(), ["women", "maleeyes"]).read()


@pytest.mark.parametrize(
    "classes", [["a"], ["a", "a"], ["a", "b", "a"], ["..", "b"], ["/tmp", "b"], ["a/b", "c"], ["", "b"]]
)
def test_classes_are_two_folders_inside_root(classes: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.classes must"):
        FolderReader(tmp_path, classes)


def test_other_and_hidden_files_are_ignored(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(2))
    for name in (".DS_Store", "._0.png", "notes.txt"):
        (root / "femaleeyes" / name).write_bytes(b"x")
    (root / "femaleeyes" / "more").mkdir()
    assert len(FolderReader(root, CLASSES).read()) == 4


def test_digests_depend_on_contents_and_not_on_name_or_time(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(2))
    first = FolderReader(root, CLASSES).read()
    (root / "femaleeyes" / "0.png").rename(root / "femaleeyes" / "zero.png")
    os.utime(root / "maleeyes" / "0.png", (1, 1))
    second = FolderReader(root, CLASSES).read()
    assert sorted(first.digests) == sorted(second.digests)


def test_a_changed_file_is_noticed(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(2))
    path = root / "femaleeyes" / "0.png"
    os.utime(path, (1, 1))
    first = FolderReader(root, CLASSES).read()
    path.write_bytes(encode(random_image(77)))
    with pytest.raises(UserError, match="must not change during a run"):
        first.open(0)
    assert FolderReader(root, CLASSES).read().digests[0] != first.digests[0]


def test_hashes_are_cached(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(range(2), range(2))
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    first = FolderReader(root, CLASSES).read()
    monkeypatch.setattr("eyegender.data.image_facts._read_all", lambda paths: pytest.fail("read again"))
    assert FolderReader(root, CLASSES).read().digests == first.digests


def test_a_damaged_hash_cache_is_replaced(folder: Callable[..., Path], cache: Path) -> None:
    root = folder(range(2), range(2))
    cache.mkdir()
    (cache / "pictures.db").write_bytes(b"no database" * 1000)
    first = FolderReader(root, CLASSES).read().digests
    assert FolderReader(root, CLASSES).read().digests == first


def test_a_broken_link_is_an_unreadable_image(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(2))
    (root / "femaleeyes" / "9.png").symlink_to(root / "gone.png")
    samples = FolderReader(root, CLASSES).read()
    with pytest.raises(UnreadableImageError, match="a broken link"):
        samples.open(samples.names.index("femaleeyes/9.png"))


def test_names_that_are_not_valid_text_work(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(2))
    odd = os.fsencode(root / "femaleeyes") + b"/\xff\n7.png"
    Path(os.fsdecode(odd)).write_bytes(encode(random_image(7)))
    samples = FolderReader(root, CLASSES).read()
    assert len(samples) == 5
    assert samples.open(samples.names.index(os.fsdecode(b"femaleeyes/\xff\n7.png"))).size == (40, 40)
