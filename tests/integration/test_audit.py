"""The audit command on data with damage, duplicates and leakage."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests import processes

pytestmark = pytest.mark.integration


def draw(seed: int) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((40, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Forty images per class without consecutive numbers, and one fault of each kind."""
    root = tmp_path / "eyes"
    for label, name in enumerate(("femaleeyes", "maleeyes")):
        (root / name).mkdir(parents=True)
        for number in range(0, 80, 2):
            draw(1000 * label + number).save(root / name / f"{number}.png")
    (root / "femaleeyes" / "1001.png").write_bytes(b"not an image")
    (root / "maleeyes" / "1003.png").write_bytes((root / "femaleeyes" / "4.png").read_bytes())
    draw(6).save(root / "maleeyes" / "1007.bmp")  # other bytes, the same pixels
    ImageOps.mirror(draw(8)).save(root / "femaleeyes" / "1005.jpg", quality=60)
    return root


def run(folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    environment = {"EYEGENDER_CACHE": str(folder / "cache"), "COLUMNS": "160"}
    out = "output=out"
    return processes.run("eyegender.audit", out, *overrides, cwd=folder, env=environment)


def test_an_audit_reports_all_faults(eyes: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "data=folder", f"data.root={eyes}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert report["counts"] == {"femaleeyes": 41, "maleeyes": 42}
    assert report["unreadable"] == {"femaleeyes/1001.png": "not a JPEG, PNG, BMP or WebP image"}
    assert report["duplicates"] == [["femaleeyes/4.png", "maleeyes/1003.png"]]
    assert report["conflicts"] == [["femaleeyes/4.png", "maleeyes/1003.png"], ["femaleeyes/6.png", "maleeyes/1007.bmp"]]
    assert [(p["first"], p["second"], p["mirrored"], p["in_both"]) for p in report["near_pairs"]] == [
        ("femaleeyes/6.png", "maleeyes/1007.bmp", False, True),
        ("femaleeyes/1005.jpg", "femaleeyes/8.png", True, False),
    ]
    assert report["leaks"]["person"]["across"] == 0
    for text in (
        "femaleeyes/1001.png: not a JPEG",
        "femaleeyes/4.png = maleeyes/1003.png",
        "gain of random",
        "in both classes: femaleeyes/6.png = maleeyes/1007.bmp",
    ):
        assert text in done.stdout
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 1000
        assert sheet.height > 300


def test_an_audit_of_synthetic_eyes_needs_no_arguments(tmp_path: Path) -> None:
    done = run(tmp_path, "data.n=60")
    assert done.returncode == 0, done.stderr
    assert "synthetic: images" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=folder", "data.root=nowhere"], "data.root must be a folder that exists"),
        (["data=folder", "data.rot=x"], "data.rot"),
        (["data=celeba", "data.root=."], "img_align_celeba"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    done = run(tmp_path, *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
