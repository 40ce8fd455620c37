"""Alerts of commands that fail: a training, a sweep, a call from Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.unit.core.test_alerts import NOTE, notes


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, cwd: Path, **env: str) -> Any:
    return processes.run("eyegender.train", *arguments, cwd=cwd, env=env)


def test_a_failed_training_sends_one_alert_and_ends_as_without_it(tmp_path: Path) -> None:
    missing = ["data=folder", "data.root=nowhere"]
    without = run(*missing, cwd=tmp_path)
    command = f"alert.command=[{sys.executable},-c,'{NOTE.replace(chr(39), chr(92) + chr(39))}','a b']"
    with_alert = run(*missing, command, "alert.webhook=http://127.0.0.1:9/x-y-z", cwd=tmp_path)
    assert (with_alert.returncode, with_alert.stdout) == (without.returncode, without.stdout) == (2, "")
    assert (
        with_alert.stderr
        == f"{without.stderr}alert: alert.webhook cannot be reached ([Errno 111] Connection refused)\n"
    )
    [[arguments, facts, _]] = notes()
    assert arguments == ["a b"]
    assert facts["EYEGENDER_ERROR"] == without.stderr.removeprefix("eyegender: ").strip()
    stored = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "note.jsonl"]
    assert len(stored) > 3
    assert [path for path in stored if b"x-y-z" in path.read_bytes() or b"'a b'" in path.read_bytes()] == []


def test_the_environment_sets_it_for_every_command(tmp_path: Path) -> None:
    script = tmp_path / "note.py"
    script.write_text(NOTE)
    alert = json.dumps([sys.executable, str(script), "by environment"])
    assert run("data=folder", "data.root=nowhere", cwd=tmp_path, EYEGENDER_ALERT_COMMAND=alert).returncode == 2
    assert [arguments for arguments, _, _ in notes()] == [["by environment"]]


def test_a_sweep_that_ends_because_trials_fail_sends_one_alert(tmp_path: Path) -> None:
    (tmp_path / "note.py").write_text(NOTE)
    swept = run(
        "-m", "+sweeps=finetune", "data=folder", "data.root=nowhere", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.study_name=eyes", f"alert.command=[{sys.executable},note.py]", cwd=tmp_path,
    )  # fmt: skip
    assert swept.returncode != 0
    [[_, facts, _]] = notes()
    assert facts["EYEGENDER_STUDY"] == "eyes"
    assert "data.root must be a folder that exists" in facts["EYEGENDER_ERROR"]
    assert facts["EYEGENDER_EXIT_STATUS"] == str(swept.returncode)


def test_a_variable_that_is_not_set_is_one_line(tmp_path: Path) -> None:
    done = run("alert.webhook=${oc.env:NOT_SET_ANYWHERE}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("eyegender: alert must be known, got ")
    assert "NOT_SET_ANYWHERE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_from_python_it_is_the_same_and_the_exception_is_raised() -> None:
    import eyegender

    script = Path("note.py")
    script.write_text(NOTE)
    alert = {"command": [sys.executable, str(script), "from Python"]}
    with pytest.raises(eyegender.UserError, match=r"data\.root must be a folder that exists"):
        eyegender.train({"data": "folder", "data.root": "nowhere", "alert": alert})
    assert [arguments for arguments, _, _ in notes()] == [["from Python"]]
