"""Commands write into new folders: they overwrite nothing and never write into a training run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eyegender.core.config_files import config_folder
from eyegender.core.errors import UserError
from eyegender.core.output_folder import RUN_FILES, check_folder, new_file, new_folder, remove_old
from eyegender.tracking.journal import JOURNAL
from tests.composing import compose_config

COMMANDS = ("audit", "compare", "evaluate", "predict", "export", "export-report", "study")


@pytest.mark.parametrize("command", COMMANDS)
def test_by_default_a_command_writes_into_a_new_folder(command: str) -> None:
    output = str(compose_config(name=command).output)
    assert re.match(rf"outputs/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d-\d{{6}}-{command}(/\w+\.(csv|onnx))?$", output)
    assert compose_config(name=command).overwrite is False


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    Path("a.csv").write_text("")
    Path("link").symlink_to("nowhere")
    for taken in ("a.csv", str(tmp_path / "a.csv"), "link", "."):
        repair = "" if taken == "." else ", or overwrite=true"
        message = f"output must be a file that does not exist, got {taken}; set another output={repair}$"
        with pytest.raises(UserError, match=message):
            new_file(taken, "output")
    Path("page").mkdir()
    Path("page/figures").mkdir()
    with pytest.raises(UserError, match="output must be a folder without figures, got page; set another"):
        new_folder("page", "output", "metrics.json", "figures")
    with pytest.raises(
        UserError, match="grad_cam must be a folder that is empty or does not exist, got page; set another"
    ):
        new_folder("page", "grad_cam")
    with pytest.raises(UserError, match="must be a folder, got the file a.csv"):
        new_folder("a.csv", "output", "metrics.json")
    assert new_folder("page", "output", "metrics.json") == Path("page")


def test_overwrite_accepts_what_is_there_and_nothing_else() -> None:
    Path("a.csv").write_text("old")
    Path("page/figures").mkdir(parents=True)
    assert new_file("a.csv", "output", overwrite=True) == Path("a.csv")
    assert Path("a.csv").read_text() == "old"  # the command may still be refused
    assert new_folder("page", "output", "figures", overwrite=True) == Path("page")
    with pytest.raises(UserError, match="must be a file that does not exist, got page; set another output=$"):
        new_file("page", "output", overwrite=True)
    with pytest.raises(UserError, match="must be a folder, got the file a.csv"):
        new_folder("a.csv", "output", "figures", overwrite=True)
    Path("run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="outside of training runs"):
        new_folder("run", "output", "figures", overwrite=True)


def test_old_files_are_removed_and_links_are_not_followed() -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/kept.png").write_text("")
    Path("page/figures").mkdir(parents=True)
    for name in ("page/figures/old.png", "page/page.html", "page/notes.txt"):
        Path(name).write_text("")
    Path("page/linked").symlink_to(Path("elsewhere").resolve())
    remove_old(Path("page"), "page.html", "figures", "linked", "missing")
    assert [path.name for path in Path("page").iterdir()] == ["notes.txt"]
    assert Path("elsewhere/kept.png").exists()


def test_a_folder_gets_the_file_of_the_command() -> None:
    Path("there.d").mkdir()
    for given, wanted in (
        ("new", "new/p.csv"), ("new.d/", "new.d/p.csv"), ("there.d", "there.d/p.csv"), ("a.jsonl", "a.jsonl"),
        ("/dev/null", "/dev/null"),
    ):  # fmt: skip
        assert new_file(given, "output", "p.csv") == Path(wanted)
    assert new_file("new", "output") == Path("new")
    Path("there.d/p.csv").write_text("")
    with pytest.raises(UserError, match="got there.d/p.csv; set another output=, or overwrite=true"):
        new_file("there.d", "output", "p.csv")


def test_a_relative_output_is_in_the_working_directory() -> None:
    assert new_file("b/c.csv", "output") == Path("b/c.csv")
    assert not Path("b").exists()  # nothing is created for a command that may still be refused


@pytest.mark.parametrize("left", RUN_FILES)
def test_nothing_is_written_into_a_training_run(left: str) -> None:
    assert JOURNAL in RUN_FILES
    run = Path("outputs/2022-02-22/22-22-22")
    run.mkdir(parents=True)
    (run / left).touch() if "." in left[1:] else (run / left).mkdir()
    for inside in (str(run), f"{run}/figures/more"):
        with pytest.raises(UserError, match=f"must lie outside of training runs, got {inside} in the run .*22-22-22;"):
            new_folder(inside, "output", "metrics.json")
    with pytest.raises(UserError, match="outside of training runs"):
        new_file(f"{run}/model.onnx", "output")
    assert new_file("outputs/2022-02-22/model.onnx", "output")


def test_a_folder_that_is_not_writable_is_refused_at_once() -> None:
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"got file/x.csv \(.*/file is not a folder\); set output="):
        new_file("file/x.csv", "output")
    with pytest.raises(UserError, match="is not writable"):
        new_folder("/proc/self/x", "output", "metrics.json")


def test_a_pipe_is_accepted() -> None:
    assert new_file("/dev/null", "output") == Path("/dev/null")


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_outputs_leave_a_checkout_clean(tmp_path: Path) -> None:
    ignored = config_folder("conf").parent / ".gitignore"
    if not ignored.is_file():
        pytest.skip("not a checkout")
    subprocess.run(["git", "init", "-q"], check=True)
    shutil.copy(ignored, tmp_path)
    for folder in ("outputs/d/t-predict", "multirun/finetune/0", "docs/outputs/d/t", "mlruns/artifacts"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.csv").touch()
    done = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["??", ".gitignore"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("taken", "output must be a folder, got the file taken; set another output="),
        ("dead", "output must be a folder, got the file dead; set another output="),
        ("taken/a/b", "taken is not a folder"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_written(path: str, message: str) -> None:
    Path("taken").touch()
    Path("dead").symlink_to("nowhere")
    before = sorted(Path.cwd().iterdir())
    with pytest.raises(UserError, match=message):
        check_folder(Path(path), "output")
    for good in ("new", "new/and/deeper", "."):
        check_folder(Path(good), "output")
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_file_system_that_takes_no_folders_is_refused() -> None:
    message = "output must be in a writable folder, got /proc/none.* accepts no folder: .*; set another output="
    for refused in (
        lambda: check_folder(Path("/proc/none/a"), "output"),
        lambda: new_folder("/proc/none", "output", "page.html"),
        lambda: new_file("/proc/none/rows.csv", "output"),
    ):
        with pytest.raises(UserError, match=message):
            refused()
