"""No class and no image disappears without a word: subfolders, other formats, classes of too few images, odd names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from random_images import encode, random_image

from eyegender.core.errors import UserError
from eyegender.core.schema import DataSection
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader
from eyegender.data.readers import check_source, with_class_names


def fill(root: Path, names: dict[str, int], suffix: str = "png") -> Path:
    for position, (name, count) in enumerate(names.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = random_image(1000 * position + number)
            (root / name / f"{2 * number}.{suffix}").write_bytes(encode(image))
    return root


def section(root: object, **options: Any) -> DataSection:
    classes = {"classes": options["classes"]} if "classes" in options else {}
    return DataSection.model_validate(
        {
            "reader": {"_target_": "eyegender.data.folder.FolderReader", "root": root, **classes},
            "size": 32,
            "color": "gray",
            "subset": None,
            "split": {"by": "random", "test": 0.2, "val": 0.2, "file": None, "seed": 0},
            "augment": dict.fromkeys(("enabled", "flip", "shift", "scale", "brightness", "rotate", "erase"), 0),
            "on_bad": "error",
            **options,
        }
    )


def refusal(root: Path, classes: Any = None) -> str:
    with pytest.raises(UserError) as refused:
        FolderReader(root, classes).read()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_images_below_a_class_are_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fill(tmp_path, {"red": 3, "green": 3, "red/2019/may": 4, "red/2020": 1, "red/.git": 2, "red/__MACOSX": 2})
    (root / "red" / "2020" / "scan.TIFF").touch()
    assert len(FolderReader(root).read()) == 6
    assert caplog.messages == [
        f"{root}/red: 6 images in subfolders are not read (2019/may, 2020); move them into the class folder"
    ]


@pytest.mark.parametrize("classes", [None, ["blue", "green", "red"]])
def test_a_class_whose_images_are_all_below_it_is_refused(tmp_path: Path, classes: Any) -> None:
    root = fill(tmp_path, {"red": 3, "green": 3, "blue/raw": 5})
    (root / "empty").mkdir()
    line = refusal(root, classes)
    assert "5 images in subfolders (raw)" in line
    assert "empty" not in line
    if classes is None:
        assert line.endswith("move or convert the images, or choose the classes with data.classes=[green,red]")
        assert FolderReader(root, ["green", "red"]).read().classes == ("green", "red")


def test_a_folder_of_another_format_is_no_empty_folder(tmp_path: Path) -> None:
    root = fill(tmp_path, {"red": 3, "green": 3})
    fill(root, {"blue": 4}, suffix="TIF")
    assert "got blue with files in other formats (4 .tif)" in refusal(root)
    assert "got no image in" in (line := refusal(root, ["blue", "red"]))
    assert "(files in other formats (4 .tif)); add images" in line


def test_images_without_a_suffix_are_found_by_their_contents(tmp_path: Path) -> None:
    root = fill(tmp_path, {"red": 3, "green": 3, "blue": 2})
    for path in (root / "blue").iterdir():
        path.rename(path.with_suffix(""))
    assert "got blue with files in other formats (2 without a suffix)" in refusal(root)
    for path in (root / "blue").iterdir():
        path.write_text("a note")
    assert FolderReader(root).read().classes == ("green", "red")  # a folder of notes is no class


def test_ignored_files_are_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fill(tmp_path, {"red": 3, "green": 3})
    Image.new("L", (9, 9)).save(root / "red" / "a.gif")
    for name in ("b.gif", "notes", "c.\n\x1b"):
        (root / "red" / name).touch()
    (root / "green" / "readme.txt").touch()
    FolderReader(root).read()
    assert len(caplog.messages) == 2
    assert any("red: 4 files are ignored (2 .gif, 1 without a suffix, 1 " in line for line in caplog.messages)
    assert any("green: 1 file is ignored (1 .txt); images end in .bmp, .jpeg" in line for line in caplog.messages)
    assert not any("\n" in line or "\x1b" in line for line in caplog.messages)


@pytest.mark.parametrize("name", ["blue", "red"])
def test_a_broken_link_can_be_skipped(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path / "data", {"red": 6, "blue": 6})
    (root / name / "90.jpg").symlink_to(tmp_path / "elsewhere" / "gone.jpg")
    with pytest.raises(UserError, match=rf"got 1 of 13 that are not \({name}/90.jpg: a broken link\)"):
        EyesDataModule(FolderReader(root), 16, split_by="random").setup()
    data = EyesDataModule(FolderReader(root), 16, split_by="random", on_bad="skip")
    data.setup()
    assert len(data.samples) == 12


def test_all_classes_of_too_few_images_are_named_before_anything_is_read(tmp_path: Path) -> None:
    root = fill(tmp_path, {"red": 4, "green": 2, "blue": 1, "white": 3})
    for path in root.rglob("*.png"):
        path.write_bytes(b"not read")
    with pytest.raises(UserError) as refused:
        check_source(section(str(root)), to_train=True)
    message = str(refused.value)
    assert message.startswith("each class needs three images or more, one for each of train, val and test")
    assert f"got one image in {root}/blue, two images in {root}/green; add images" in message
    check_source(section(str(root)))  # an evaluation splits nothing


@pytest.mark.parametrize("split_by", ["person", "random"])
def test_a_data_module_names_all_such_classes(tmp_path: Path, split_by: str) -> None:
    root = fill(tmp_path, {"red": 9, "green": 2, "blue": 2})
    with pytest.raises(UserError, match="image each of class 'blue', got 2, of class 'green', got 2; add images$"):
        EyesDataModule(FolderReader(root), 16, split_by=split_by).setup()


def test_a_subset_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, {"red": 9, "green": 9})
    with pytest.raises(UserError, match=r"data.subset must be 3 or more for each class.*got \{'red': 5, 'green': 2\}"):
        check_source(section(str(root), subset={"red": 5, "green": 2}), to_train=True)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "data.root must be a folder, got null; set data.root=FOLDER"),
        ("", "data.root must be a folder, got ''; set data.root=FOLDER"),
        (False, "data.root must be a folder, got false; set data.root=FOLDER"),
        (["a"], r"data.root must be a folder, got \['a'\]; set"),
        (2024, "data.root must be a folder as text, got the number 2024; quote it: 'data.root=\"2024\"'"),
    ],
)
@pytest.mark.parametrize("reader", ["folder.FolderReader", "celeba.CelebaReader"])
def test_a_root_that_is_no_path_is_refused(root: object, message: str, reader: str) -> None:
    data = section(root).model_dump(by_alias=True)
    data["reader"]["_target_"] = f"eyegender.data.{reader}"
    with pytest.raises(UserError, match=f"^{message}"):
        check_source(DataSection.model_validate(data))


def test_folders_whose_names_yaml_reads_as_other_values_are_found(tmp_path: Path) -> None:
    root = fill(tmp_path, {"false": 2, "None": 2, "2e2": 2, "012": 2, "no": 2, "7": 2})
    samples = FolderReader(root, [None, 200.0, 12, 7]).read()
    assert samples.classes == ("None", "2e2", "012", "7")
    assert np.bincount(samples.labels).tolist() == [2, 2, 2, 2]
    stored = with_class_names(section(str(root), classes=[None, 12]))
    assert (stored.reader.arguments["classes"], stored.model_extra) == (["None", "012"], {"classes": ["None", "012"]})
    line = refusal(root, [False, 7])  # false or no
    assert "got false, which is read as another value (folders there: false, no); quote it" in line
    assert FolderReader(root, ["false", "no"]).read().classes == ("false", "no")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([True, "red"], "must name folders as text, got true, .*; quote it, as in 'data.classes=[\"true\",...]'"),
        ([None, "red"], "must name folders as text, got null, "),
        ([0.5, "red"], "must name folders as text, got 0.5, "),
        ([8, "red"], "without '8' (folders there: green, red)"),
        ({"red": True, "green": "x"}, "must map folders to names as text, got true, "),
        ({"red": None, "green": "x"}, "must map folders to names as text, got null, "),
    ],
)
def test_other_values_have_to_be_quoted(tmp_path: Path, classes: Any, message: str) -> None:
    root = fill(tmp_path, {"red": 2, "green": 2})
    first, _, rest = message.partition(".*")
    assert first in (line := refusal(root, classes))
    assert rest in line
