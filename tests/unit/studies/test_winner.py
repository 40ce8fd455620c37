"""Which trial of a study is evaluated on the test set."""

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


def complete(folder: Path) -> Path:
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
    ("damage", "reason"),
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
def test_a_damaged_trial_is_skipped_with_the_reason(damage, reason, tmp_path, capsys):
    folders = [complete(tmp_path / str(number)) for number in range(3)]
    assert all(find_damage(folder) is None for folder in folders)
    damage(folders[0])
    assert selected(tmp_path, folders) == 1
    out = capsys.readouterr().out
    assert re.search(f"^Skipped  trial 0, which cannot be tested: .*({reason})", out, re.MULTILINE)
    assert len(out.splitlines()) == 1


def test_if_every_trial_is_damaged_it_is_reported_once(tmp_path, capsys):
    assert selected(tmp_path, [tmp_path / "nowhere", None]) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Winner   not tested, because the files of every complete trial are damaged or missing"
    assert [line.split(",")[0] for line in lines[:-1]] == ["Skipped  trial 0", "Skipped  trial 1"]


def test_without_a_feasible_trial_there_is_no_winner(tmp_path, capsys):
    status = StudyStatus("s", "memory", ("maximize",), 3, Counts(complete=2), True, [], [])
    assert study_run._best_usable(status, tmp_path) is None
    reason = "Winner   none, no feasible trial: each of the 2 complete ones violates a constraint\n"
    assert capsys.readouterr().out == reason


def test_a_moved_sweep_folder_is_found(tmp_path, capsys):
    complete(tmp_path / "moved/0")
    assert selected(tmp_path / "moved", [tmp_path / "old/0"]) == 0
    assert capsys.readouterr().out == ""


def test_the_recommended_trial_is_tested_before_the_best_ones(tmp_path, capsys):
    folders = [complete(tmp_path / str(number)) for number in range(4)]
    assert selected(tmp_path, folders, recommended=2) == 2
    shutil.rmtree(folders[2])
    assert selected(tmp_path, folders, recommended=2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Skipped  trial 2"]


def selected(sweep_dir: Path, folders: list[Path | None], recommended: int | None = None) -> int | None:
    best = [trial(number, folder) for number, folder in enumerate(folders)]
    chosen = None if recommended is None else best[recommended]
    counts = Counts(complete=len(best))
    status = StudyStatus("s", "memory", ("maximize",), 3, counts, True, best, best, recommended=chosen)
    found = study_run._best_usable(status, sweep_dir)
    return None if found is None else found.number
