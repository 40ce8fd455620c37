from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.inference.faces import EyeDetector, EyePositions, read_eye_table


def test_a_crop_lies_inside_the_image() -> None:
    face = Image.new("L", (100, 80))
    for left, right in (((1, 1), (40, 2)), ((60, 79), (99, 78)), ((0, 0), (99, 79))):
        for eye in EyePositions(left, right).crop(face, width=1.0).values():
            assert eye.width == eye.height
            assert 2 <= eye.width <= 80


def test_the_crop_is_as_wide_as_the_eyes_are_apart() -> None:
    eyes = EyePositions((30, 50), (70, 50)).crop(Image.new("L", (100, 100)), width=0.5)
    assert {name: eye.size for name, eye in eyes.items()} == {"left": (20, 20), "right": (20, 20)}


def test_positions_are_found_by_path_or_by_file_name(tmp_path: Path) -> None:
    table = tmp_path / "eyes.csv"
    table.write_text("path,left_x,left_y,right_x,right_y\nx/a.jpg,10,10,20,10\nb.jpg,1,1,5,1\n")
    eyes = read_eye_table(table, 1.0)
    image = Image.new("L", (40, 40))
    assert set(eyes(Path("x/a.jpg"), image)) == {"left", "right"}
    assert set(eyes(Path("elsewhere/b.jpg"), image)) == {"left", "right"}
    assert eyes(Path("c.jpg"), image) == {}
    assert eyes(Path("x/a.jpg"), Image.new("L", (15, 15))) == {}  # an eye outside


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,left_x,left_y,right_x\n", "got no right_y; add it"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3,x\n", "line 2"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3\n", "line 2"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3_0,4\n", "line 2, must hold .* got '3_0'"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,\uff13,4\n", "line 2, must hold"),
        ("path,left_x,left_y,right_x,right_y\n,1,2,3,4\n", "line 2, must hold a path"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3,4\nb,30,2,3,4\n", "line 3, must have the left eye .* swapped"),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3,4,5\n", "line 2, must have 5 cells, got more"),
        ("path,left_x,left_y,right_x,right_y\n\n\na,1,2,x,4\n", "line 4, must hold"),
        ("path,left_x,left_y,right_x,right_y,left_x\na,1,2,3,4,5\n", "name each column once, got left_x twice"),
        (
            "path,left_x,left_y,right_x,right_y\na,1,2,3,4\na,1,2,3,4\n",
            "line 3, must be of another image",
        ),
        ("path,left_x,left_y,right_x,right_y\na,1,2,3,4\n./a,1,2,3,4\n", "one row per image, got a and ./a"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "eyes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_eye_table(tmp_path / "eyes.csv", 1.0)
    with pytest.raises(UserError, match="cannot read"):
        read_eye_table(tmp_path / "missing.csv", 1.0)


HEAD = "path,left_x,left_y,right_x,right_y\n"


@pytest.mark.parametrize(
    ("rows", "images", "message"),
    [
        (
            "x/a.jpg,10,10,20,10\ny/a.jpg,5,5,30,5\n",
            ["z/a.jpg"],
            "got y/a.jpg for the image z/a.jpg; write",
        ),
        ("x/a.jpg,10,10,20,10\n", ["x/a.jpg", "y/a.jpg"], "got x/a.jpg for the image y/a.jpg"),
        ("a.jpg,10,10,20,10\n", ["x/a.jpg", "y/a.jpg"], "got a.jpg for 2 images .x/a.jpg first."),
        ("b.jpg,10,10,20,10\n", ["x/a.jpg"], "got none for x/a.jpg"),
        ("../x/a.jpg,10,10,20,10\n", ["x/a.jpg"], "got ../x/a.jpg for the image x/a.jpg"),
    ],
)
def test_an_ambiguous_row_is_refused(tmp_path: Path, rows: str, images: list[str], message: str) -> None:
    table = tmp_path / "eyes.csv"
    table.write_text(HEAD + rows)
    with pytest.raises(UserError, match=message):
        read_eye_table(table, 1.0).check([Path(name) for name in images])


def test_a_file_name_belongs_to_the_file_beside_the_table(tmp_path: Path) -> None:
    for folder in ("tables", "x"):
        (tmp_path / folder).mkdir()
    table = tmp_path / "tables" / "eyes.csv"
    table.write_text(f"{HEAD}a.jpg,10,10,20,10\n")
    elsewhere = Path("x/a.jpg")
    read_eye_table(table, 1.0).check([elsewhere])
    for place in (tmp_path / "tables" / "a.jpg", tmp_path / "a.jpg"):  # beside the table, or in the working directory
        place.touch()
        with pytest.raises(UserError, match=r"got a.jpg for the image x/a.jpg; write that path"):
            read_eye_table(table, 1.0).check([elsewhere])
        place.unlink()


def test_paths_count_from_here_or_from_the_table(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    table = tmp_path / "faces" / "eyes.csv"
    table.write_text(f"{HEAD}a.jpg,1,10,20,10\nfaces/./b.jpg,2,10,20,10\n{tmp_path}/faces/c.jpg,3,10,20,10\n")
    eyes = read_eye_table(table, 1.0)  # the working directory is tmp_path
    paths = [Path("faces/a.jpg"), tmp_path / "faces" / "b.jpg", Path("faces/c.jpg")]
    eyes.check([*paths, Path("faces/d.jpg")])
    assert all(set(eyes(path, Image.new("L", (40, 40)))) == {"left", "right"} for path in paths)
    assert eyes(Path("faces/d.jpg"), Image.new("L", (40, 40))) == {}


@pytest.mark.parametrize("scale", [0.35, 1.0, 2.5])
def test_both_eyes_of_a_real_face_are_found_at_any_size(scale: float) -> None:
    pytest.importorskip("cv2")
    face = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    face = face.resize((round(face.width * scale), round(face.height * scale)))
    eyes = EyeDetector(1.0).detect(face)
    assert eyes is not None
    # Pupils as marked by hand in the image of 512 pixels; they are 43 pixels apart.
    for (x, y), (true_x, true_y) in ((eyes.left, (203.5, 101.3)), (eyes.right, (246.8, 103.0))):
        assert np.hypot(x / scale - true_x, y / scale - true_y) < 0.1 * 43


def test_opencv_ships_its_cascades_and_finds_no_face_in_noise() -> None:
    pytest.importorskip("cv2")
    noise = np.random.default_rng(0).integers(0, 256, (120, 120), dtype=np.uint8)
    assert EyeDetector(1.0)(Path("noise.png"), Image.fromarray(noise)) == {}
