"""A study that is continued with other settings says so: nothing else in it tells the trials apart."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
import pytest

from hydra_plugins.optuna_study._budget import COMMON

from .sweeping import HERE, load, multirun


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of the toy's config folder, to be edited."""
    folder = tmp_path / "conf"
    (folder / "shape").mkdir(parents=True)
    for path in (HERE / "conf").rglob("*.yaml"):
        (folder / path.relative_to(HERE / "conf")).write_text(path.read_text())
    return folder


def task(cfg):  # type: ignore[no-untyped-def]
    return float(cfg.x) ** 2


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "goes on with other settings" in record.getMessage()]
    caplog.clear()
    return found


def edit(conf: Path, before: str, after: str) -> None:
    text = (conf / "config.yaml").read_text()
    assert before in text
    (conf / "config.yaml").write_text(text.replace(before, after))


def test_an_edited_config_is_named_with_both_values(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    multirun(task, "hydra.sweeper.n_trials=1", config_dir=conf)
    multirun(task, "hydra.sweeper.n_trials=2", config_dir=conf)
    assert warned(caplog) == []
    edit(conf, "seconds: 0.01", "seconds: 0.02\nnested: {more: [1, 2]}")
    multirun(task, "hydra.sweeper.n_trials=3", config_dir=conf)
    (message,) = warned(caplog)
    assert message.startswith("study 'toy' goes on with other settings than it began with")
    assert "seconds was 0.01, now 0.02; nested.more was not there, now [1, 2]; set the former values" in message
    # What is searched, or a setting that the study may ignore, is no difference.
    multirun(task, "hydra.sweeper.n_trials=4", "hydra.sweeper.allow_changes=[seconds,nested.more]", config_dir=conf)
    assert warned(caplog) == []
    assert len(load().trials) == 4


def test_changes_that_are_allowed_are_named(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    multirun(task, "hydra.sweeper.n_trials=1", config_dir=conf)
    again = ("hydra.sweeper.n_trials=2", "hydra.sweeper.allow_changes=true")
    multirun(task, *again, "steps=9", "x=interval(-4,5)", config_dir=conf)
    (message,) = warned(caplog)
    assert "steps was 5, now 9; set" in message


def test_a_study_of_an_earlier_version_is_compared_with_its_first_trial(
    conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    multirun(task, "hydra.sweep.dir=out", "hydra.sweeper.n_trials=1", config_dir=conf)
    storage = optuna.storages.get_storage("sqlite:///study.db")
    storage.set_study_system_attr(storage.get_study_id_from_name("toy"), COMMON, None)
    edit(conf, "mode: ok", "way: ok")
    same = ("hydra.sweep.dir=out", "hydra.sweeper.renamed={mode: way}")
    multirun(task, *same, "hydra.sweeper.n_trials=2", config_dir=conf)
    assert warned(caplog) == []
    edit(conf, "seconds: 0.01", "seconds: 0.02")
    multirun(task, *same, "hydra.sweeper.n_trials=3", config_dir=conf)
    (message,) = warned(caplog)
    assert "seconds was 0.01, now 0.02; set" in message


def test_a_secret_is_neither_stored_nor_shown(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for number in (1, 2):
        edit(conf, "mode: ok", f"password: hunter{number}\nurl: postgresql://me:hunter{number}@host/db\nmode: ok")
        multirun(task, f"hydra.sweeper.n_trials={number}", config_dir=conf)
        edit(conf, f"password: hunter{number}\nurl: postgresql://me:hunter{number}@host/db\n", "")
    assert warned(caplog) == []
    storage = optuna.storages.get_storage("sqlite:///study.db")
    stored = storage.get_study_system_attrs(storage.get_study_id_from_name("toy"))[COMMON]
    assert stored["mode"] == "ok"
    assert "hunter" not in str(stored)
