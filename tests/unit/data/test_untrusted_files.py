"""Links and names that lead out of the data, and images that would fill the memory."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from random_images import encode, random_image

from eyegender.core.command import print_error
from eyegender.core.errors import UserError
from eyegender.data.celeba import CelebaReader
from eyegender.data.data_module import EyesDataModule
from eyegender.data.decode import MAX_SCANS, decode
from eyegender.data.folder import FolderReader
from eyegender.data.readers import UnreadableImageError
from eyegender.data.split_file import read_split_csv
from eyegender.inference.faces import read_eye_table
from eyegender.inference.prediction import decode_batches, find_image_files

CLASSES = ("femaleeyes", "maleeyes")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def giant(kind: str, side: int) -> bytes:
    """A small file whose header states side x side pixels."""
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        pixels = zlib.compress(bytes(1 << 20), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    data = bytearray(encode(random_image(1), kind))
    if kind == "JPEG":
        frame = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, frame + 5, side, side)
    elif kind == "BMP":
        struct.pack_into("<ii", data, 18, side, side)
    else:
        body = bytes(data[12:])
        canvas = struct.pack("<I", side - 1)[:3]
        extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + canvas
        return b"RIFF" + struct.pack("<I", 4 + len(extended) + len(body)) + b"WEBP" + extended + body
    return bytes(data)


@pytest.mark.parametrize("side", [8_000, 16_000, 65_000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_giant_images_of_every_format_are_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch, kind: str, side: int
) -> None:
    def unpack(self: Image.Image) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", unpack)
    with pytest.raises(UnreadableImageError) as caught:
        decode(giant(kind, side))
    assert "unpacked" not in str(caught.value)


def test_a_jpeg_with_too_many_scans_is_refused() -> None:
    buffer = io.BytesIO()
    random_image(1).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    assert decode(data).size == (40, 40)
    with pytest.raises(UnreadableImageError, match="scans, more than 200"):
        decode(data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:])


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (tmp_path / "eyes" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "eyes" / name / f"{number}.png").write_bytes(encode(random_image(10 * label + number)))
    return tmp_path / "eyes"


def test_a_link_out_of_the_data_is_refused(eyes: Path, tmp_path: Path) -> None:
    outside = tmp_path / "mine.png"
    outside.write_bytes(encode(random_image(99)))
    link = eyes / "maleeyes" / "9.png"
    link.symlink_to("../femaleeyes/0.png")
    assert "maleeyes/9.png" in FolderReader(eyes, CLASSES).read().names
    for target in (outside, Path("../../mine.png"), Path("/etc/hostname")):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(UserError, match=r"must be in .*eyes, got the link .*9.png to .*; replace it by the file"):
            FolderReader(eyes, CLASSES).read()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    # Its path may have 107 bytes.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def endless(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("gone.png")


STRANGE = {
    pipe: "a named pipe, not a file",
    listening: "a socket, not a file",
    endless: "a device, not a file",
    link_to_itself: "Too many levels of symbolic links",
    link_to_nothing: "a broken link",
}
ODD_NAME = "a\nb\x1b[31m\u202e.png"


@pytest.mark.parametrize("make", STRANGE)
def test_a_file_that_is_not_a_regular_one_is_reported_without_waiting(eyes: Path, make: Callable[[Path], None]) -> None:
    path = eyes / "maleeyes" / "9.png"
    make(path)
    for folder in (eyes / "maleeyes" / "8.png", eyes / "maleeyes" / "below"):
        folder.mkdir()
    samples = FolderReader(eyes, CLASSES).read()
    assert len(samples) == 7
    with pytest.raises(UnreadableImageError, match=STRANGE[make]):
        samples.open(samples.names.index("maleeyes/9.png"))
    for images in ([str(path)], [str(eyes)]):
        read = {one.path.name: one.reason for batch in decode_batches(find_image_files(images)) for one in batch}
        assert read["9.png"] == STRANGE[make]
        assert "8.png" not in read


@pytest.mark.parametrize("make", STRANGE)
def test_a_face_that_is_not_a_regular_file_is_reported(
    eyes: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    home = tmp_path / "celeba"
    (home / "img_align_celeba").mkdir(parents=True)
    for number in range(1, 7):
        (home / "img_align_celeba" / f"{number}.png").write_bytes(encode(random_image(number, 60)))
    rows = [f"{number}.png" for number in range(1, 7)]
    columns = " ".join(["Male", *(f"a{k}" for k in range(39))])
    attributes = [f"{name} {'1 ' if k % 2 else '-1 '}{'1 ' * 39}" for k, name in enumerate(rows)]
    (home / "list_attr_celeba.txt").write_text("\n".join(["6", columns, *attributes]))
    points = " ".join(f"p{k}" for k in range(10))
    landmarks = [f"{name} 20 20 40 20 30 30 20 40 40 40" for name in rows]
    (home / "list_landmarks_align_celeba.txt").write_text("\n".join(["6", points, *landmarks]))
    path = home / "img_align_celeba" / "3.png"
    path.unlink()
    make(path)
    samples = CelebaReader(home, eyes="left").read()
    with pytest.raises(UnreadableImageError, match=STRANGE[make]):
        samples.open(samples.names.index("3.png#left"))


def test_an_image_that_becomes_a_pipe_is_reported_without_waiting(eyes: Path) -> None:
    samples = FolderReader(eyes, CLASSES).read()
    (eyes / "femaleeyes" / "0.png").unlink()
    os.mkfifo(eyes / "femaleeyes" / "0.png")
    with pytest.raises(UserError, match=r"must stay readable, got .*0.png \(a named pipe, not a file\)"):
        samples.open(0)


def test_control_characters_in_names_are_escaped(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (eyes / "maleeyes" / ODD_NAME).write_bytes(b"no image")
    (eyes / "maleeyes" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        EyesDataModule(FolderReader(eyes, CLASSES), 16).setup()
    print_error(caught.value)
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 3
    assert printed.replace("\n", "").isprintable()
    assert r"maleeyes/a\nb\x1b[31m\u202e.png: not a JPEG" in printed
    printed.encode()  # could be printed


def test_a_class_folder_may_be_a_link(eyes: Path, tmp_path: Path) -> None:
    (eyes / "maleeyes").rename(tmp_path / "elsewhere")
    (eyes / "maleeyes").symlink_to(tmp_path / "elsewhere")
    assert len(FolderReader(eyes, CLASSES).read()) == 6


@pytest.mark.parametrize("name", ["../mine.png", "/etc/hostname", "femaleeyes/../../mine.png", "maleeyes/./0.png"])
def test_names_in_csv_files_open_nothing(eyes: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.png").write_bytes(encode(random_image(99)))
    samples = FolderReader(eyes, CLASSES).read()
    split = tmp_path / "split.csv"
    split.write_text(f"path,label,split\n{name},0,train\n")
    with pytest.raises(UserError, match="no image"):
        read_split_csv(split, samples)
    positions = tmp_path / "positions.csv"
    positions.write_text(f"path,left_x,left_y,right_x,right_y\n{name},1,2,30,2\n")
    # A position is only looked up by the path of a given image.
    assert read_eye_table(positions, 1.0)(Path("other.png"), random_image(1)) == {}


def test_a_position_outside_of_its_image_is_ignored(tmp_path: Path) -> None:
    positions = tmp_path / "positions.csv"
    lines = ["nan,1,2,3", "inf,1,2,3", "-1,1,2,3", "1e300,1,2,3"]
    for line in lines:
        positions.write_text(f"path,left_x,left_y,right_x,right_y\na.png,{line}\n")
        assert read_eye_table(positions, 1.0)(Path("a.png"), random_image(1)) == {}
