"""Pictures and names that lead out of the data, and pictures that would fill the machine."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from drawn_pictures import draw, encode
from PIL import Image

from eyegender.data.decode import MAX_SCANS, decode
from eyegender.data.folder import FolderReader
from eyegender.data.samples import BadPictureError
from eyegender.data.split_file import read_split_csv
from eyegender.errors import UserError
from eyegender.using.faces import read_eye_positions

CLASSES = ("femaleeyes", "maleeyes")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def giant(kind: str, side: int) -> bytes:
    """A small file whose header states side x side pixels."""
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        pixels = zlib.compress(bytes(1 << 20), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    data = bytearray(encode(draw(1), kind))
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
def test_giants_of_every_format_are_refused_undecoded(monkeypatch: pytest.MonkeyPatch, kind: str, side: int) -> None:
    def unpack(self: Image.Image) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", unpack)
    with pytest.raises(BadPictureError) as caught:
        decode(giant(kind, side))
    assert "unpacked" not in str(caught.value)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    buffer = io.BytesIO()
    draw(1).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    assert decode(data).size == (40, 40)
    with pytest.raises(BadPictureError, match="scans, more than 200"):
        decode(data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:])


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (tmp_path / "eyes" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "eyes" / name / f"{number}.png").write_bytes(encode(draw(10 * label + number)))
    return tmp_path / "eyes"


def test_a_link_out_of_the_data_is_refused(eyes: Path, tmp_path: Path) -> None:
    outside = tmp_path / "mine.png"
    outside.write_bytes(encode(draw(99)))
    link = eyes / "maleeyes" / "9.png"
    link.symlink_to("../femaleeyes/0.png")
    assert "maleeyes/9.png" in FolderReader(eyes, CLASSES).read().names
    for target in (outside, Path("../../mine.png"), Path("/etc/hostname")):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(UserError, match=r"must lie in .*eyes, got the link .*9.png to .*; replace it by the file"):
            FolderReader(eyes, CLASSES).read()


def test_a_class_folder_may_be_a_link(eyes: Path, tmp_path: Path) -> None:
    (eyes / "maleeyes").rename(tmp_path / "elsewhere")
    (eyes / "maleeyes").symlink_to(tmp_path / "elsewhere")
    assert len(FolderReader(eyes, CLASSES).read()) == 6


@pytest.mark.parametrize("name", ["../mine.png", "/etc/hostname", "femaleeyes/../../mine.png", "maleeyes/./0.png"])
def test_names_in_csv_files_open_nothing(eyes: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.png").write_bytes(encode(draw(99)))
    samples = FolderReader(eyes, CLASSES).read()
    split = tmp_path / "split.csv"
    split.write_text(f"path,label,split\n{name},0,train\n")
    with pytest.raises(UserError, match="no picture"):
        read_split_csv(split, samples)
    positions = tmp_path / "positions.csv"
    positions.write_text(f"path,left_x,left_y,right_x,right_y\n{name},1,2,30,2\n")
    # A position is only ever looked up by the path of a picture that was given.
    assert read_eye_positions(positions, 1.0)(Path("other.png"), draw(1)) == {}


def test_a_position_outside_its_picture_is_none(tmp_path: Path) -> None:
    positions = tmp_path / "positions.csv"
    lines = ["nan,1,2,3", "inf,1,2,3", "-1,1,2,3", "1e300,1,2,3"]
    for line in lines:
        positions.write_text(f"path,left_x,left_y,right_x,right_y\na.png,{line}\n")
        assert read_eye_positions(positions, 1.0)(Path("a.png"), draw(1)) == {}
