"""What optuna-dashboard gets of a study: names of objectives and notes, and only while nobody has edited them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from eyegender.studies.dashboard import _in_lines, name_metrics, write_notes
from hydra_plugins.optuna_study import StudyHandle
from hydra_plugins.optuna_study._storage import Storage, storage_spec
from tests.studies import ADDRESS, Trials

dashboard: Any = pytest.importorskip("optuna_dashboard")


def handle(trials: Trials) -> StudyHandle:
    directions = trials.status.directions
    return StudyHandle(Storage(storage_spec(trials.url)), trials.name, directions, str(trials.folder))


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path).add_all(8)


def note(trials: Trials) -> str:
    return str(dashboard.get_note(optuna.load_study(study_name="s", storage=trials.url)))


def test_objectives_get_their_names(trials: Trials) -> None:
    study = handle(trials)
    name_metrics(study, ["a", "b"])  # not as many as there are
    name_metrics(study, [])
    assert study.load().metric_names is None
    for _ in range(2):
        name_metrics(study, ["val/accuracy"])
        assert study.load().metric_names == ["val/accuracy"]


def test_the_note_has_the_best_configuration_the_command_and_links(trials: Trials) -> None:
    best = trials.status.winner
    assert best is not None
    folder = trials.folder / "trials" / str(best.number) / ".hydra"
    folder.mkdir(parents=True)
    (folder / "overrides.yaml").write_text(yaml.safe_dump(["model.lr=0.001", "data.root=/my pictures"]))
    name_metrics(handle(trials), ["val/accuracy"])
    write_notes(handle(trials), trials.status, trials.folder)
    text = note(trials)
    assert text.startswith(f"**Best: [trial {best.number}]({ADDRESS}{best.number:032x})**, val/accuracy 0.")
    assert f"- `model.lr` = `{best.params['model.lr']}`" in text
    assert "```\neyegender train model.lr=0.001 'data.root=/my pictures'\n```" in text


def test_a_long_command_is_broken_where_a_shell_joins_it() -> None:
    words = ["eyegender", "train", *(f"data.key{i}=a value of {i}'s" for i in range(12))]
    text = _in_lines(shlex.join(words))
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) > 2
    assert shlex.split(text.replace("\\\n", "")) == words


def test_trials_link_their_runs_whatever_became_of_them(trials: Trials) -> None:
    study = handle(trials)
    write_notes(study, trials.status, trials.folder)
    for row in trials.status.trials:
        assert dashboard.get_note(study.trial(row.storage_number)) == f"[Run in MLflow]({ADDRESS}{row.number:032x})"


def test_edited_notes_stay_and_others_are_renewed(trials: Trials) -> None:
    study = handle(trials)
    dashboard.save_note(study.trial(0), "mine")
    write_notes(study, trials.status, trials.folder)
    assert dashboard.get_note(study.trial(0)) == "mine"
    trials.add(values=[0.99])
    write_notes(study, trials.status, trials.folder)
    assert "val" in note(trials)
    assert "0.99" in note(trials)
    dashboard.save_note(study.load(), "also mine")
    trials.add(values=[0.999])
    write_notes(study, trials.status, trials.folder)
    assert note(trials) == "also mine"


def test_a_study_without_a_complete_trial_says_so(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add("failed")
    write_notes(handle(trials), trials.status, tmp_path)
    assert note(trials) == "No trial is complete yet."


def test_without_the_dashboard_nothing_is_written(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    write_notes(handle(trials), trials.status, trials.folder)
    monkeypatch.undo()
    assert note(trials) == ""


def test_an_unreachable_storage_does_not_fail_a_study(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OSError("the storage is away")

    monkeypatch.setattr(dashboard, "save_note", away)
    write_notes(handle(trials), trials.status, trials.folder)
    assert "the notes are incomplete (the storage is away)" in caplog.text
