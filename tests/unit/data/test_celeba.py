import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from celeba_files import COLUMNS, POINTS, N, edit
from random_images import encode, random_image, real

from eyegender.core.errors import UserError
from eyegender.data.celeba import CelebaReader
from eyegender.data.data_module import EyesDataModule


def test_two_eyes_of_each_face(celeba: Path) -> None:
    samples = CelebaReader(celeba).read()
    assert len(samples) == 2 * N
    assert samples.names[:2] == ("000001.jpg#left", "000001.jpg#right")
    assert samples.labels.reshape(-1, 2).tolist() == [[k % 2 == 0] * 2 for k in range(1, N + 1)]
    assert samples.persons is not None
    assert samples.persons[:2] == ("1", "1")
    assert samples.splits is not None
    assert samples.splits[0] == "train"
    assert set(samples.attributes) == set(COLUMNS)
    assert np.array_equal(samples.attributes["Male"] == 1, samples.labels == 1)
    assert len(set(samples.digests)) == 2 * N


def test_the_crop_is_a_square_around_the_landmark(celeba: Path) -> None:
    samples = CelebaReader(celeba, crop=0.5).read()
    left = samples.open(0)
    assert left.size == (20, 20)  # half of the 40 pixels between the eyes
    face = np.asarray(random_image(1, 100)).astype(int)
    assert np.abs(np.asarray(left).astype(int) - face[30:50, 20:40]).mean() < 4  # JPEG
    assert samples.sizes is not None
    assert samples.sizes[0].tolist() == [20, 20]


def test_a_crop_at_the_border_stays_inside(celeba: Path) -> None:
    edit(celeba / "list_landmarks_align_celeba.txt", "30 40 70", "1 40 70")
    assert CelebaReader(celeba, crop=1.5).read().open(0).size == (100, 100)


@pytest.mark.parametrize(("eyes", "count"), [("left", N), ("right", N), ("both", 2 * N)])
def test_one_eye_or_both(celeba: Path, eyes: str, count: int) -> None:
    assert len(CelebaReader(celeba, eyes=eyes).read()) == count  # type: ignore[arg-type]


def test_root_may_be_the_folder_above(celeba: Path) -> None:
    above, home = CelebaReader(celeba.parent).read(), CelebaReader(celeba).read()
    assert (above.names, above.digests) == (home.names, home.digests)


def test_kaggles_layout_gives_the_same_samples(celeba: Path, tmp_path: Path) -> None:
    kaggle = tmp_path / "kaggle"
    shutil.copytree(celeba / "img_align_celeba", kaggle / "img_align_celeba" / "img_align_celeba")
    for stem, columns in (
        ("list_attr_celeba", COLUMNS),
        ("list_landmarks_align_celeba", POINTS.split()),
        ("list_eval_partition", ["partition"]),
    ):
        lines = (celeba / f"{stem}.txt").read_text().splitlines()
        rows = [line.split() for line in lines if ".jpg" in line]
        with (kaggle / f"{stem}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image_id", *columns], *rows])
    ours, theirs = CelebaReader(celeba).read(), CelebaReader(kaggle).read()
    assert (ours.names, ours.digests, ours.splits) == (theirs.names, theirs.digests, theirs.splits)
    assert theirs.persons is None
    with pytest.raises(UserError, match=r"without identity_CelebA.txt; .* data.split.by=official"):
        EyesDataModule(CelebaReader(kaggle), 16).setup()
    module = EyesDataModule(CelebaReader(kaggle), 16, split_by="official")
    module.setup()
    assert module.counts()["test"] == {"female": 8, "male": 8}


@pytest.mark.parametrize("name", ["list_attr_celeba", "list_landmarks_align_celeba", "identity_CelebA"])
def test_a_quota_page_is_recognised(celeba: Path, name: str) -> None:
    (celeba / f"{name}.txt").write_text("<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>")
    with pytest.raises(UserError, match=rf"{name}.txt must be an annotation file, got a web page"):
        CelebaReader(celeba).read()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "24\n", "25\n", "must hold the 25 images that its first line says, got 24"),
        ("list_attr_celeba.txt", "24\n", "x\n", "line 1 must be the number of images, got 'x'"),
        ("list_attr_celeba.txt", "Male", "Female", "must have the column Male"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg", "line 4 must hold the name of an image and 40 numbers"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg up", "line 4 must hold whole numbers .* got 'up'"),
        ("list_attr_celeba.txt", "000002.jpg", "000001.jpg", "must name each image once, got 000001.jpg twice"),
        ("list_attr_celeba.txt", "000002.jpg", "../000002.jpg", "line 4 must name an image inside the folder"),
        ("list_attr_celeba.txt", "000002.jpg", "/etc/passwd", "line 4 must name an image inside the folder"),
        ("list_attr_celeba.txt", "000002.jpg", "..\\2.jpg", "line 4 must name an image inside the folder"),
        ("list_attr_celeba.txt", "000002.jpg", "900002.jpg", "got 1 of 24 missing .900002.jpg first.; add them or set"),
        ("list_landmarks_align_celeba.txt", "000002.jpg", "2.jpg", "must name every image .* got 1 missing"),
        ("list_landmarks_align_celeba.txt", "jpg 30 40", "jpg 300 40", r"000001.jpg: eyes at \(300, 40\)"),
        ("list_landmarks_align_celeba.txt", "jpg 30 40", "jpg -3 40", r"000001.jpg: eyes at \(-3, 40\)"),
        ("list_landmarks_align_celeba.txt", "30 40 70  40", "30 40 30  40", "must place both eyes inside"),
        ("list_landmarks_align_celeba.txt", "30 40 70  40", "70 40 30  40", "left of the right one, got 1 of 24"),
        ("list_landmarks_align_celeba.txt", "30 40 70  40", "40 30 40  70", "apart from and left of"),
        ("list_landmarks_align_celeba.txt", "righteye_x", "lefteye_x", "must name each column once, got lefteye_x"),
        ("list_landmarks_align_celeba.txt", "righteye_x", "eye_x", "must have the column righteye_x"),
        ("list_landmarks_align_celeba.txt", "30 40", "3_0 40", "line 3 must hold whole numbers .* got '3_0'"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg 0", "-1 or 1 throughout, or .* got 0 as .* line 4"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg 2", "got 2 as Attribute_0 of 000002.jpg in line 4"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg 1_0", "line 4 must hold whole numbers .* got '1_0'"),
        ("list_attr_celeba.txt", "000002.jpg -1", "000002.jpg \uff11", "line 4 must hold whole numbers"),
        ("identity_CelebA.txt", "000003.jpg ", "000003.jpg -", "a person's number, .* of 000003.jpg in line 3"),
        ("identity_CelebA.txt", "000003.jpg ", "000003.jpg \u0663", "line 3 must hold whole numbers"),
        ("list_landmarks_align_celeba.txt", "30 40", "30 99999999999999999999", "must hold whole numbers"),
        ("identity_CelebA.txt", "000003.jpg", "x.jpg", "must name every image .* got 1 missing"),
        ("list_eval_partition.txt", "000003.jpg 0", "000003.jpg 7", "0, 1 or 2 .* got 7 of 000003.jpg in line 3"),
    ],
)
def test_each_fault_is_one_line(celeba: Path, file: str, old: str, new: str, message: str) -> None:
    edit(celeba / file, old, new)
    with pytest.raises(UserError, match=message) as caught:
        CelebaReader(celeba).read()
    assert "\n" not in str(caught.value)


def spread(celeba: Path, of: dict[str, str]) -> None:
    """Rewrite every attribute."""
    path = celeba / "list_attr_celeba.txt"
    head, columns, *rows = path.read_text().splitlines()
    rows = [" ".join([row.split()[0], *(of[cell] for cell in row.split()[1:])]) for row in rows]
    path.write_text("\n".join([head, columns, *rows]) + "\n")


def test_attributes_may_be_0_and_1_for_the_whole_file(celeba: Path) -> None:
    labels = CelebaReader(celeba).read().labels
    spread(celeba, {"-1": "0", "1": "1"})
    assert np.array_equal(CelebaReader(celeba).read().labels, labels)


def test_attributes_without_names_are_refused(celeba: Path) -> None:
    path = celeba / "list_attr_celeba.txt"
    head, _, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, "", *rows]) + "\n")
    with pytest.raises(UserError, match="must have the column Male"):
        CelebaReader(celeba).read()


@pytest.mark.parametrize("of", [{"-1": "0"}, {"0": "-1"}])
def test_the_label_may_be_0_and_1_beside_attributes_written_otherwise(celeba: Path, of: dict[str, str]) -> None:
    labels = CelebaReader(celeba).read().labels
    path = celeba / "list_attr_celeba.txt"
    if "0" in of:
        spread(celeba, {"-1": "0", "1": "1"})
    head, columns, *rows = path.read_text().splitlines()
    cells = [row.split() for row in rows]
    male = 1 + columns.split().index("Male")
    for row in cells:
        row[male] = of.get(row[male], row[male])
    path.write_text("\n".join([head, columns, *map(" ".join, cells)]) + "\n")
    assert np.array_equal(CelebaReader(celeba).read().labels, labels)
    one = next(row for row in cells if row[male] != "1")
    one[male] = "-1" if one[male] == "0" else "0"
    path.write_text("\n".join([head, columns, *map(" ".join, cells)]) + "\n")
    with pytest.raises(UserError, match=f"got {one[male]} as Male of {one[0]} in line"):
        CelebaReader(celeba).read()


@pytest.mark.parametrize("of", [{"-1": "0", "1": "-1"}, {"-1": "2", "1": "1"}, {"-1": "1", "1": "10"}])
def test_attributes_in_another_notation_are_refused_with_the_row(celeba: Path, of: dict[str, str]) -> None:
    spread(celeba, of)
    with pytest.raises(UserError, match=r"list_attr_celeba.txt must hold -1 or 1 .* of 00000[1-9].jpg in line [3-9] "):
        CelebaReader(celeba).read()


def test_the_column_names_say_which_eye_is_which(celeba: Path) -> None:
    before = CelebaReader(celeba).read()
    path = celeba / "list_landmarks_align_celeba.txt"
    head, _, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, "righteye_x righteye_y lefteye_x lefteye_y a b c d e f",
                               *(row.replace("30 40 70  40", "70 40 30 40") for row in rows)]) + "\n")  # fmt: skip
    assert CelebaReader(celeba).read().digests == before.digests


def test_swapped_eyes_can_be_left_out(celeba: Path) -> None:
    edit(celeba / "list_landmarks_align_celeba.txt", "30 40 70  40", "70 40 30  40")
    assert len(CelebaReader(celeba, on_bad="skip").read()) == 2 * (N - 1)


def test_skip_leaves_out_missing_images_and_eyes_outside_of_them(celeba: Path) -> None:
    (celeba / "img_align_celeba" / "000005.jpg").unlink()
    edit(celeba / "list_landmarks_align_celeba.txt", "000007.jpg 30", "000007.jpg 300")
    names = CelebaReader(celeba, on_bad="skip").read().names
    assert len(names) == 2 * (N - 2)
    assert not [name for name in names if name.startswith(("000005", "000007"))]


def test_a_link_out_of_the_folder_is_refused(celeba: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encode(random_image(1), "JPEG"))
    path = celeba / "img_align_celeba" / "000003.jpg"
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(UserError, match=r"images must be in .* got the link 000003.jpg"):
        CelebaReader(celeba).read()


def test_missing_folders_and_files_are_named(celeba: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root must be a folder with img_align_celeba/"):
        CelebaReader(tmp_path / "nowhere").read()
    (celeba / "list_landmarks_align_celeba.txt").unlink()
    with pytest.raises(UserError, match=r"CelebA needs list_landmarks_align_celeba.txt or .csv"):
        CelebaReader(celeba).read()


def test_a_class_of_one_is_refused(celeba: Path) -> None:
    path = celeba / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace(" 1", " -1"))
    with pytest.raises(UserError, match="each class needs two images or more, got 0 male"):
        CelebaReader(celeba).read()


@pytest.mark.parametrize(("eyes", "crop"), [("third", 1.0), ("both", 0.0), ("both", 9.0), ("both", float("nan"))])
def test_options_are_checked(eyes: str, crop: float) -> None:
    with pytest.raises(UserError, match=r"data\.(eyes|crop) must be"):
        CelebaReader("anywhere", eyes=eyes, crop=crop)  # type: ignore[arg-type]


def test_no_person_is_in_two_splits(celeba: Path) -> None:
    module = EyesDataModule(CelebaReader(celeba), 16)
    module.setup()
    assert module.samples.persons is not None
    where = [{module.samples.persons[i] for i in module.split.index(name)} for name in ("train", "val", "test")]
    assert len(where[0] | where[1] | where[2]) == sum(len(persons) for persons in where)


@pytest.mark.real_eyes
def test_the_real_sample(folder: Callable[..., Path]) -> None:
    samples = CelebaReader(real("EYEGENDER_TEST_CELEBA")).read()
    assert len(samples) == 2 * 738
    assert samples.persons is not None
    assert set(samples.splits or ()) == {"train", "val", "test"}
