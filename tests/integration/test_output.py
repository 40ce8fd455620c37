"""`output=` and `hydra.run.dir` of real commands: nothing is overwritten unasked, and going on needs no asking."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
import torch

from eyegender.tracking.journal import JOURNAL
from hydra_plugins.optuna_study import study_status
from tests.composing import TINY
from tests.processes import Command, run
from tests.stores import give_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

EPOCH = "trainer.max_epochs=1"
SWEEP = (
    "-m", *TINY, EPOCH, "hydra/sweeper=optuna_study", "hydra.sweeper.storage=sqlite:///optuna.db",
    "hydra.sweeper.direction=maximize", "hydra.sweeper.allow_changes=[output,overwrite]", "hydra.sweeper.plan=false",
    "model.lr=interval(0.001,0.01)", "run_test=false",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    give_store(tmp_path / "mlruns")
    return tmp_path


def train(folder: Path, *overrides: str, code: int = 0) -> str:
    """What it printed: of a refused command, its one line."""
    return call("train", folder, *overrides, code=code)


def call(command: str, folder: Path, *overrides: str, code: int = 0) -> str:
    done = run(f"eyegender.{command}", *overrides, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    if code == 0:
        return done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def facts(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "metrics.json").read_text())
    return content


def test_a_run_keeps_to_its_folder(folder: Path) -> None:
    out = folder / "out"
    train(folder, *TINY, EPOCH, "output=out")
    first = facts(out)
    config = (out / ".hydra/config.yaml").read_text()
    # The same folder again, by either key: refused before Hydra writes its config there.
    for key in ("output", "hydra.run.dir"):
        refused = train(folder, *TINY, EPOCH, f"{key}=out", "seed=5", code=2)
        assert "output must be a folder without a result" in refused
        assert "set another output=, or overwrite=true, or ckpt_path=" in refused
    assert facts(out) == first
    assert (out / ".hydra/config.yaml").read_text() == config
    # Going on in the same folder.
    train(folder, *TINY, "trainer.max_epochs=2", "output=out", f"ckpt_path={out}/checkpoints/last.ckpt")
    assert (facts(out)["epochs"], facts(out)["run_key"]) == (2, first["run_key"])
    # A mistake in the command removes nothing; a new run replaces the result.
    train(folder, *TINY, EPOCH, "output=out", "overwrite=true", "model.lr=-1", code=2)
    assert facts(out)["epochs"] == 2
    (out / "notes.txt").write_text("mine")
    train(folder, *TINY, EPOCH, "output=out", "overwrite=true", "seed=5", "run_test=false")
    assert (facts(out)["epochs"], facts(out)["seed"]) == (1, 5)
    assert facts(out)["run_key"] != first["run_key"]
    assert not (out / "test_predictions.json").exists()  # of the first run
    assert (out / "notes.txt").exists()
    two = train(folder, *TINY, EPOCH, "output=a", "hydra.run.dir=b", code=2)
    assert "output and hydra.run.dir must name one folder" in two


def test_a_killed_run_is_never_overwritten(folder: Path) -> None:
    out = folder / "out"
    command = (*TINY, "trainer.max_epochs=1000", "output=out")
    running = Command("eyegender.train", *command, cwd=folder)
    deadline = time.monotonic() + 200
    while not (out / "checkpoints/last.ckpt").exists():
        assert time.monotonic() < deadline, running.said()
        time.sleep(0.1)
    # While it trains, and after it was killed.
    in_use = train(folder, *TINY, EPOCH, "output=out", "overwrite=true", code=2)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    refused = train(folder, *TINY, EPOCH, "output=out", "overwrite=true", code=2)
    for line in (in_use, refused):
        assert "has not finished; continue it with ckpt_path=" in line
    key = json.loads((out / JOURNAL).read_text().splitlines()[0])["key"]
    steps = torch.load(out / "checkpoints/last.ckpt", weights_only=False)["global_step"]
    # Slurm restarts the same command, which goes on.
    env = {"SLURM_RESTART_COUNT": "1"}
    again = run("eyegender.train", *command, f"trainer.max_steps={steps + 1}", cwd=folder, env=env)
    assert again.returncode == 0, again.stderr
    assert facts(out)["run_key"] == key


def test_a_sweep_keeps_to_its_folder(folder: Path) -> None:
    name = "hydra.sweeper.study_name=first"
    train(folder, *SWEEP, name, "hydra.sweeper.n_trials=1", "output=out")
    assert (folder / "out/0/metrics.json").exists()
    before = facts(folder / "out/0")
    # The same study goes on, by whichever key.
    train(folder, *SWEEP, name, "hydra.sweeper.n_trials=2", "hydra.run.dir=out")
    assert (folder / "out/1/metrics.json").exists()
    assert facts(folder / "out/0") == before
    # Another study, or plain runs, would mix with its trials.
    other = "hydra.sweeper.study_name=other"
    for overrides in ((*SWEEP, other, "hydra.sweeper.n_trials=1"), ("-m", *TINY, "seed=1,2")):
        refused = train(folder, *overrides, "output=out", code=2)
        assert "output must be a folder without results of another sweep" in refused
    train(folder, *SWEEP, other, "hydra.sweeper.n_trials=1", "output=out", "overwrite=true")
    assert facts(folder / "out/0")["run_key"] != before["run_key"]
    assert not (folder / "out/1/metrics.json").exists()
    assert study_status(f"sqlite:///{folder}/optuna.db", "other").counts.complete == 1
    # overwrite is no part of a study: it continues without.
    train(folder, *SWEEP, other, "hydra.sweeper.n_trials=2", "output=out")
    assert (folder / "out/1/metrics.json").exists()


def test_other_commands_understand_both_keys(folder: Path) -> None:
    train(folder, *TINY, EPOCH, "output=run")
    model = "model=run/checkpoints/best.ckpt"
    call("evaluate", folder, model, "hydra.run.dir=page", "split=val")
    first = facts(folder / "page")
    (folder / "page/figures/old.png").write_text("")
    again = call("evaluate", folder, model, "output=page", code=2)
    assert "without metrics.json, got page; set another output=, or overwrite=true" in again
    assert facts(folder / "page") == first
    call("evaluate", folder, model, "output=page", "overwrite=true")
    assert facts(folder / "page") != first
    assert not (folder / "page/figures/old.png").exists()
    assert "must lie outside of training runs" in call(
        "evaluate", folder, model, "output=run", "overwrite=true", code=2
    )
