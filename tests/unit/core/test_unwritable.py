from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eyegender import sync
from eyegender.core.errors import UserError
from eyegender.tracking.location import find_location


def test_a_file_at_the_path_of_the_store_is_reported_and_nothing_is_created(tmp_path: Path) -> None:
    (tmp_path / "mlruns").touch()
    with pytest.raises(UserError, match=r"cannot store runs in .*mlruns \(.*not a folder\); set tracking.root=FOLDER"):
        find_location(None)


def test_locating_the_store_creates_nothing(tmp_path: Path) -> None:
    assert find_location(None).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert not list(tmp_path.iterdir())


def test_the_config_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert find_location(None).uri == "http://environment"
    assert find_location("http://config").uri == "http://config"


def test_inside_the_checkout_the_store_is_found_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("eyegender", "conf", "deep/er"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert find_location(None).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_a_read_only_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        done = subprocess.run([sys.executable, "-m", "eyegender.train"], cwd=disk, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "output must be in a writable folder" in done.stderr
    assert "Read-only file system" in done.stderr


def test_a_working_folder_that_hydra_would_interpolate_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a${b}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["eyegender", "--help"])
    with pytest.raises(SystemExit, match="2"):
        sync.main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("eyegender: the working folder must have no ${ in its path")
    assert str(folder) in line
    assert list(folder.iterdir()) == []
