"""The same image in both classes."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from random_images import encode, random_image

from eyegender.core.errors import UserError
from eyegender.data.celeba import CelebaReader
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader

CLASSES = ["femaleeyes", "maleeyes"]


def with_a_comment(image: Image.Image) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "copied")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


COPIES: dict[str, Callable[[Path], bytes]] = {
    "the same bytes": Path.read_bytes,
    "another format": lambda path: encode(Image.open(path), "BMP"),
    "other metadata": lambda path: with_a_comment(Image.open(path)),
    "opaque": lambda path: encode(Image.open(path).convert("RGBA")),
}


@pytest.fixture
def eyes(folder: Callable[..., Path]) -> Path:
    return folder(range(0, 60, 2), range(0, 60, 2))


def module(root: Path, **options: object) -> EyesDataModule:
    data = EyesDataModule(FolderReader(root, CLASSES), 16, **options)  # type: ignore[arg-type]
    data.setup()
    return data


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_an_image_in_both_classes_stops_a_training_or_is_dropped(
    eyes: Path, how: str, color: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (4, 8):
        (eyes / "maleeyes" / f"{900 + number}.png").write_bytes(COPIES[how](eyes / "femaleeyes" / f"{number}.png"))
    (eyes / "femaleeyes" / "907.png").write_bytes((eyes / "femaleeyes" / "8.png").read_bytes())  # a third copy
    pairs = ("femaleeyes/4.png = maleeyes/904.png", "femaleeyes/8.png = femaleeyes/907.png = maleeyes/908.png")
    with pytest.raises(UserError, match=r"got 2 in both .femaleeyes/4.png = .*=drop, .* all 5") as caught:
        module(eyes, color=color)
    assert "(femaleeyes/4.png = maleeyes/904.png)" in str(caught.value)
    assert caught.value.details == pairs
    for split_by in ("person", "random"):
        data = module(eyes, color=color, on_conflict="drop", split_by=split_by)
        assert len(data.samples) == 58
        assert not {name for pair in pairs for name in pair.split(" = ")} & set(data.samples.names)
        assert data.facts()["conflicts"] == {"pictures": 2, "handling": "drop"}
        assert sum(count for split in data.counts().values() for count in split.values()) == 58
    assert "2 images are in both classes; all 5 copies are left out" in caplog.text
    with_conflicts = module(eyes, color=color, on_conflict="keep")
    assert len(with_conflicts.samples) == 63
    assert [" = ".join(names) for names in with_conflicts.conflicts] == list(pairs)


def test_many_copies_of_one_image_are_reported_in_a_short_line(eyes: Path) -> None:
    for number in range(901, 960):
        shutil.copy(eyes / "femaleeyes" / "4.png", eyes / "femaleeyes" / f"{number}.png")
    shutil.copy(eyes / "femaleeyes" / "4.png", eyes / "maleeyes" / "999.png")
    with pytest.raises(UserError, match=r"in both \(femaleeyes/4.png = maleeyes/999.png\); .* all 61$"):
        module(eyes)


def test_copies_in_one_class_and_images_that_are_equal_only_when_resized_are_no_conflict(eyes: Path) -> None:
    (eyes / "femaleeyes" / "901.png").write_bytes((eyes / "femaleeyes" / "4.png").read_bytes())
    # Equal at 16 pixels, but not copies: one pixel of the large images differs.
    large = np.full((1600, 1600), 200, np.uint8)
    (eyes / "femaleeyes" / "903.png").write_bytes(encode(Image.fromarray(large)))
    large[0, 0] = 201
    (eyes / "maleeyes" / "903.png").write_bytes(encode(Image.fromarray(large)))
    assert module(eyes).conflicts == ()


def test_near_duplicates_in_both_classes_are_reported(eyes: Path, caplog: pytest.LogCaptureFixture) -> None:
    (eyes / "maleeyes" / "901.jpg").write_bytes(encode(Image.open(eyes / "femaleeyes" / "4.png"), "JPEG", quality=60))
    assert module(eyes).conflicts == ()
    assert "1 pairs of near-duplicates are in both classes; eyegender audit lists them" in caplog.text


def test_unreadable_files_with_equal_names_or_contents_are_no_conflict(eyes: Path) -> None:
    for name in CLASSES:
        (eyes / name / "901.png").write_bytes(b"")
        (eyes / name / "903.png").symlink_to("gone.png")
    data = module(eyes, on_bad="skip")
    assert data.conflicts == ()
    assert len(data.skipped) == 4


def test_the_search_for_conflicts_decodes_no_image_twice(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (eyes / "maleeyes" / "901.png").write_bytes((eyes / "femaleeyes" / "4.png").read_bytes())
    module(eyes, on_conflict="keep")
    monkeypatch.setattr("eyegender.data.folder.decode", lambda *_, **__: pytest.fail("decoded"))
    assert len(module(eyes, on_conflict="keep").conflicts) == 1


def test_a_split_file_may_contain_dropped_copies(eyes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (eyes / "maleeyes" / "901.png").write_bytes((eyes / "femaleeyes" / "4.png").read_bytes())
    table = tmp_path / "split.csv"
    lines = [
        f"{name}/{path.name},{label},{('train', 'val', 'test')[k % 3]}"
        for label, name in enumerate(CLASSES)
        for k, path in enumerate(sorted((eyes / name).iterdir()))
    ]
    table.write_text("\n".join(["path,label,split", *lines]) + "\n")
    with caplog.at_level(logging.WARNING):
        data = module(eyes, on_conflict="drop", split_by="file", split_file=str(table))
    assert len(data.samples) == 59


@pytest.mark.parametrize("moved", [False, True], ids=["same landmarks", "moved landmarks"])
def test_a_face_with_both_labels_is_a_conflict(tmp_path: Path, moved: bool) -> None:
    home = tmp_path / "celeba"
    (home / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 25)]
    for number, name in enumerate(names):
        (home / "img_align_celeba" / name).write_bytes(encode(random_image(number, 100), "JPEG"))
    shutil.copy(home / "img_align_celeba" / names[0], home / "img_align_celeba" / names[1])
    columns = " ".join(["Male", *(f"a{k}" for k in range(39))])
    attributes = [f"{name} {'1 ' if k % 2 else '-1 '}{'1 ' * 39}" for k, name in enumerate(names)]
    (home / "list_attr_celeba.txt").write_text("\n".join(["24", columns, *attributes]))
    points = " ".join(f"p{k}" for k in range(10))
    landmarks = [f"{name} {31 if moved and k == 1 else 30} 40 70 40 50 60 40 80 60 80" for k, name in enumerate(names)]
    (home / "list_landmarks_align_celeba.txt").write_text("\n".join(["24", points, *landmarks]))
    (home / "identity_CelebA.txt").write_text("\n".join(f"{name} {k}" for k, name in enumerate(names)))
    with pytest.raises(UserError, match=r"got 1 in both .000001.jpg#left = 000002.jpg#left."):
        EyesDataModule(CelebaReader(home), 16).setup()
    data = EyesDataModule(CelebaReader(home), 16, on_conflict="drop")
    data.setup()
    assert len(data.samples) == 44
