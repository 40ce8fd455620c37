"""Which trial a study's one test is spent on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from eyegender.studies import study_run
from eyegender.studies.winner import find_damage
from hydra_plugins.optuna_study import StudyStatus, TrialRow
from hydra_plugins.optuna_study._budget import Counts

if TYPE_CHECKING:
    from collections.abc import Callable


def trial(number: int, folder: Path | None) -> TrialRow:
    attrs = {} if folder is None else {"output_dir": str(folder)}
    return TrialRow(number, number, 0, "complete", (1.0 - number / 10,), {}, attrs, {}, None, None)


def whole(folder: Path) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / ".hydra/overrides.yaml").write_text("- model.lr=1e-3\n")
    (folder / "config.yaml").write_text("seed: 1\n")
    for name in ("best", "last"):
        torch.save({"state_dict": {"weight": torch.zeros(9)}}, folder / f"checkpoints/{name}.ckpt")
    return folder


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def empty(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "its folder .*0 is gone"),
        (remove("checkpoints/best.ckpt"), "no checkpoint .*best.ckpt$"),
        (remove("checkpoints/last.ckpt"), "no checkpoint .*last.ckpt$"),
        (empty("checkpoints/best.ckpt"), "best.ckpt is damaged"),
        (remove("config.yaml"), "No such file.*config.yaml"),
        (empty("config.yaml"), "config.yaml is damaged"),
        (lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe{"), "config.yaml|utf-8|decode"),
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "while parsing"),
        (remove(".hydra/overrides.yaml"), "No such file.*overrides.yaml"),
    ],
)
def test_a_trial_that_is_not_whole_is_passed_over_with_the_reason(damage, said, tmp_path, capsys):
    folders = [whole(tmp_path / str(number)) for number in range(3)]
    assert all(find_damage(folder) is None for folder in folders)
    damage(folders[0])
    assert chosen(tmp_path, folders) == 1
    out = capsys.readouterr().out
    assert re.search(f"^Skipped  trial 0, which cannot be tested: .*({said})", out, re.MULTILINE)
    assert len(out.splitlines()) == 1


def test_that_no_trial_is_whole_is_said_once(tmp_path, capsys):
    assert chosen(tmp_path, [tmp_path / "nowhere", None]) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Winner   not tested, because the files of every complete trial are damaged or missing"
    assert [line.split(",")[0] for line in lines[:-1]] == ["Skipped  trial 0", "Skipped  trial 1"]


def test_that_no_trial_is_feasible_leaves_no_winner(tmp_path, capsys):
    status = StudyStatus("s", "memory", ("maximize",), 3, Counts(complete=2), True, [], [])
    assert study_run._best_usable(status, tmp_path) is None
    said = "Winner   none, no feasible trial: each of the 2 complete ones violates a constraint\n"
    assert capsys.readouterr().out == said


def test_a_sweeps_folder_that_was_moved_is_found(tmp_path, capsys):
    whole(tmp_path / "moved/0")
    assert chosen(tmp_path / "moved", [tmp_path / "old/0"]) == 0
    assert capsys.readouterr().out == ""


def chosen(sweep_dir: Path, folders: list[Path | None]) -> int | None:
    best = [trial(number, folder) for number, folder in enumerate(folders)]
    status = StudyStatus("s", "memory", ("maximize",), 3, Counts(complete=len(best)), True, best, best)
    found = study_run._best_usable(status, sweep_dir)
    return None if found is None else found.number
