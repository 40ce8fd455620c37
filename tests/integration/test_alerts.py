"""An alert belongs to one command: whatever a run, a checkpoint or a study of somebody else holds sends none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from eyegender.training.checkpoints import load_checkpoint
from tests import processes
from tests.composing import TINY
from tests.planted import assert_nowhere

pytestmark = pytest.mark.integration
SHORT = (*TINY, "trainer.max_epochs=1")
ADDRESS = "http://127.0.0.1:9/hook-s3cr3t"


@pytest.fixture
def alert(tmp_path: Path) -> dict[str, object]:
    """A command that leaves a file."""
    script = tmp_path / "leave-a-mark.py"
    script.write_text("import os, pathlib; pathlib.Path(__file__).with_name('sent').open('a').write('x')\n")
    return {"command": [sys.executable, str(script)], "webhook": ADDRESS}


def overrides(alert: dict[str, object]) -> list[str]:
    return [f"alert.command={json.dumps(alert['command'])}", f"alert.webhook={alert['webhook']}"]


def sent(folder: Path) -> int:
    path = folder / "sent"
    return len(path.read_text()) if path.exists() else 0


def test_a_run_that_ends_well_sends_nothing_and_stores_nothing_of_it(tmp_path: Path, alert: dict[str, object]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = processes.run("eyegender.train", *SHORT, *overrides(alert), "output=run", cwd=work)
    assert done.returncode == 0, done.stderr
    assert sent(tmp_path) == 0
    assert_nowhere(["leave-a-mark.py", "hook-s3cr3t"], work)
    # The same command, longer and failing at its end: one alert, and the error as without it.
    failing = [*SHORT, "trainer.max_epochs=2", "model.lr=1e30", "trainer.gradient_clip=null", "output=failed"]
    done = processes.run("eyegender.train", *failing, *overrides(alert), cwd=work)
    plain = tmp_path / "plain"
    plain.mkdir()
    without = processes.run("eyegender.train", *failing, cwd=plain)
    assert done.returncode == without.returncode == 2
    assert sent(tmp_path) == 1
    warning = "alert: alert.webhook cannot be reached ([Errno 111] Connection refused)\n"
    assert done.stderr == without.stderr.replace(str(plain), str(work)) + warning
    assert_nowhere(["leave-a-mark.py", "hook-s3cr3t"], work)


def test_what_is_stored_with_a_run_sends_nothing(tmp_path: Path, alert: dict[str, object]) -> None:
    done = processes.run("eyegender.train", *SHORT, "output=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run, run_id = tmp_path / "run", json.loads((tmp_path / "run/run.json").read_text())["run_id"]
    stored = [run / "config.yaml", run / ".hydra/config.yaml", *tmp_path.glob("mlruns/artifacts/**/config.yaml")]
    assert len(stored) == 3
    for path in stored:
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "alert": alert}))
    (run / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides(alert)))
    for name in ("best", "last"):
        path = run / f"checkpoints/{name}.ckpt"
        checkpoint = load_checkpoint(path)
        checkpoint["config"]["alert"] = alert
        torch.save(checkpoint, path)
        assert load_checkpoint(path)["config"]["alert"] == alert  # it is really there
    last = "ckpt_path=run/checkpoints/last.ckpt"
    failing = [
        ("eyegender.train", *SHORT, last, "model.lr=0.5"),  # another rate than the run's
        ("eyegender.train", *SHORT, last, "trainer.max_epochs=2", "trainer.batch_size=2000", "data.root=x"),
        ("eyegender.evaluate", "model=run/checkpoints/best.ckpt", "data=folder", "data.root=nowhere"),
        ("eyegender.evaluate", f"model=runs:/{run_id}", "split=train", "output=run/x"),
        ("eyegender.promote", f"run={run_id}", "name='a/b'"),
        ("eyegender.predict", f"model=runs:/{run_id}", "images=nowhere"),
    ]
    for command in failing:
        done = processes.run(*command, cwd=tmp_path)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert "alert: " not in done.stderr
    # Neither do those that succeed.
    for command in (
        ("eyegender.train", *SHORT, last, "trainer.max_epochs=2"),
        ("eyegender.evaluate", "model=run/checkpoints/best.ckpt"),
        ("eyegender.promote", f"run={run_id}"),
    ):
        done = processes.run(*command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert sent(tmp_path) == 0


def test_a_study_that_goes_on_has_only_the_alert_of_its_command(tmp_path: Path, alert: dict[str, object]) -> None:
    """Trials fail because the images of the second one are gone; the first command set an alert, the second none."""
    sweep = (
        "-m", *SHORT, "+sweeps=finetune", "hydra.sweeper.study_name=eyes", "hydra.sweeper.plan=false",
        "hydra.sweeper.storage=sqlite:///optuna.db", "model.finetune_depth=0",
    )  # fmt: skip
    first = processes.run("eyegender.train", *sweep, *overrides(alert), "hydra.sweeper.n_trials=1", cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert sent(tmp_path) == 0
    more = (*sweep, "hydra.sweeper.n_trials=3", "hydra.sweeper.max_failure_rate=0", "model.weights=gone.pth")
    allowed = "hydra.sweeper.allow_changes=true"
    again = processes.run("eyegender.train", *more, allowed, cwd=tmp_path)
    assert again.returncode == 2, again.stdout + again.stderr
    assert sent(tmp_path) == 0
    third = processes.run("eyegender.train", *more, allowed, *overrides(alert), cwd=tmp_path)
    assert third.returncode == 2
    assert sent(tmp_path) == 1
    assert_nowhere(["leave-a-mark.py", "hook-s3cr3t"], tmp_path / "multirun")
    assert_nowhere(["leave-a-mark.py", "hook-s3cr3t"], tmp_path / "mlruns")
    assert b"leave-a-mark.py" not in (tmp_path / "optuna.db").read_bytes()
