"""A study that an earlier version of the sweeper made, with the keys of that version, continues without changes.

`studies/before.log` is its journal: one complete trial, one that was interrupted, and its second attempt, whose worker
was killed. Its workers stored their host as `place`.
"""

import logging
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.optuna_study import current_trial, study_status
from hydra_plugins.optuna_study._heartbeat import WorkerId

from .sweeping import HERE, multirun

CONFIG = """
defaults: [config, _self_, override hydra/sweeper/pruner: median]
hydra:
  sweep: {dir: out}
  sweeper:
    n_trials: 5
    patience: 50
    storage_patience: 1
    storage: journal://study.log
    params:
      y: choice(1, 2)
      steps:
        y=1: range(3, 6)
        else: 7
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A config folder of that version, next to the study."""
    journal = (HERE / "studies/before.log").read_text()
    Path("study.log").write_text(journal.replace("FOLDER", str(tmp_path)))
    (tmp_path / "conf").mkdir()
    for path in (HERE / "conf").rglob("*.yaml"):
        copy = tmp_path / "conf" / path.relative_to(HERE / "conf")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "conf/before.yaml").write_text(CONFIG)
    return tmp_path / "conf"


def test_a_study_of_an_earlier_version_continues_with_its_own_command(
    conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[Any, ...]] = []

    def task(cfg: Any) -> float:
        trial = current_trial()
        assert trial is not None
        seen.append((trial.number, trial.attempt, dict(trial.reported), trial.user_attrs.get("saved"), trial.directory))
        return float(cfg.x) ** 2

    before = study_status("journal://study.log", "toy")
    assert [(row.number, row.attempt, row.state) for row in before.trials] == [(0, 0, "complete"), (1, 1, "running")]
    assert [(row.worker, row.host, row.trial) for row in before.workers] == [(0, "host", 1)]
    with caplog.at_level(logging.WARNING):
        status = multirun(task, "seconds=0.02", "hydra.sweeper.sampler.seed=3", config_dir=conf, name="before")
    # The killed worker's trial is requeued once its heartbeat has been missed three times.
    assert (1, 2, {0: 2.0}, "half of it", str(Path("out/1").absolute())) in seen
    assert status.counts.complete == 5
    assert sorted(row.number for row in status.trials) == [0, 1, 3, 4, 5]
    renamed = {"patience": "early_stopping_patience", "storage_patience": "storage_retry_minutes"}
    for old, new in renamed.items():
        warning = f"hydra.sweeper.{old} is now called hydra.sweeper.{new}; the old name still works"
        assert [record.getMessage() for record in caplog.records].count(warning) == 1


def test_a_worker_id_is_stored_as_existing_studies_have_it() -> None:
    stored = {"launch": "l", "worker": 3, "host": "h", "pid": 1, "place": "h/b/n", "started": "5", "heartbeat": 2.0}
    worker_id = WorkerId.from_stored(stored)
    assert worker_id == WorkerId("l", 3, "h", 1, "h/b/n", "5", 2.0)
    assert worker_id.to_stored() == stored
    assert WorkerId.from_stored({"launch": "l"}) is None
    assert WorkerId.from_stored(None) is None


def test_a_former_key_stops_the_study_as_the_new_one_does(sweep: Any) -> None:
    status = sweep("hydra.sweeper.patience=2", "hydra.sweeper.n_trials=50", "hydra/sweeper/sampler=random",
                   "hydra.sweeper.sampler.seed=1")  # fmt: skip
    assert status.stopped == "no better value in the last 2 finished trials"


def test_the_new_key_on_the_command_line_wins_over_the_former_one_of_a_file(conf: Path) -> None:
    new = "hydra.sweeper.early_stopping_patience=1"
    status = multirun(lambda cfg: 1.0, new, "seconds=0.02", "hydra.sweeper.n_trials=9", config_dir=conf, name="before")
    assert status.stopped == "no better value in the last 1 finished trials"
