"""Runs that a signal stops, and that resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from eyegender.data import pixel_cache
from eyegender.data.decode import Color, to_pixels
from eyegender.models.classifier import Classifier
from eyegender.training.run import RunResult, train
from tests.composing import TINY, tiny_config
from tests.integration.test_train import only_run, store
from tests.stores import give_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from eyegender.data.loader import Batch

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _ready_store(tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunResult]:
    """Runs that nothing interrupted, trained once each."""

    @cache
    def trained(*options: str) -> RunResult:
        folder = tmp_path_factory.mktemp("whole")
        give_store(folder / "mlruns")
        return train(tiny_config(*options, f"tracking.root={folder / 'mlruns'}"), folder / "out")

    return trained


@pytest.mark.parametrize(
    ("number", "step", "ema"),
    [
        (signal.SIGTERM, 4, "null"),  # in the middle of the second epoch
        (signal.SIGINT, 5, "null"),  # at its last step
        (signal.SIGINT, 4, "0.99"),
        (signal.SIGTERM, 5, "0.99"),
    ],
)
def test_a_signal_leaves_a_checkpoint_and_a_killed_run_that_resumes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Callable[..., RunResult],
    number: signal.Signals,
    step: int,
    ema: str,
) -> None:
    options = ("trainer.max_epochs=3", f"model.ema={ema}")
    config = (*options, f"tracking.root={tmp_path / 'mlruns'}")
    expected = whole(*options)
    plain = Classifier.training_step

    def signalled(self: Classifier, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", signalled)
        with pytest.raises(SystemExit) as stopped:
            train(tiny_config(*config), tmp_path / "first")
    assert stopped.value.code == 128 + number
    assert only_run(tmp_path).info.status == "KILLED"
    last = torch.load(tmp_path / "first/checkpoints/last.ckpt", weights_only=True)
    trained = last.get("current_model_state", last["state_dict"])
    apart = [name for name, tensor in last["state_dict"].items() if not torch.equal(tensor, trained[name])]
    assert bool(apart) == (ema != "null")  # what is tested and logged is the average
    resumed = train(tiny_config(*config, f"ckpt_path={tmp_path / 'first/checkpoints/last.ckpt'}"), tmp_path / "second")
    run = only_run(tmp_path)  # still the one run
    assert run.info.status == "FINISHED"
    history = store(tmp_path).get_metric_history(run.info.run_id, "loss/train")
    assert [point.step for point in history] == [1, 2, 3]
    # Interrupted or not, the result is the same.
    assert [row["train/loss"] for row in resumed.history] == pytest.approx(
        [row["train/loss"] for row in expected.history]
    )
    assert [row["val/loss"] for row in resumed.history] == pytest.approx([row["val/loss"] for row in expected.history])
    assert resumed.metrics["test/loss"] == pytest.approx(expected.metrics["test/loss"])
    assert max(row["epoch_seconds"] for row in resumed.history) < 600  # of the epoch, not of the machine's uptime


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_sigterm_in_the_middle_of_a_stage_lets_it_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stage: str
) -> None:
    config = tiny_config("trainer.max_epochs=3", "trainer.eval_batch_size=1", f"tracking.root={tmp_path / 'mlruns'}")
    plain = getattr(Classifier, f"{stage}_step")

    def signalled(self: Classifier, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and (stage == "test" or self.current_epoch == 1):
            os.kill(os.getpid(), signal.SIGTERM)
        plain(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, f"{stage}_step", signalled)
    if stage == "test":  # no step is left to train: the run ends normally
        assert "test/loss" in train(config, tmp_path / "out").metrics
        assert only_run(tmp_path).info.status == "FINISHED"
        return
    with pytest.raises(SystemExit) as stopped:
        train(config, tmp_path / "out")
    assert stopped.value.code == 143
    assert f"resume with ckpt_path={tmp_path / 'out/checkpoints/last.ckpt'}" in caplog.text
    run = only_run(tmp_path)
    assert run.info.status == "KILLED"
    assert [point.step for point in store(tmp_path).get_metric_history(run.info.run_id, "loss/val")] == [1, 2]


def test_a_signal_while_images_are_decoded_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def signalled(image: Image.Image, size: int, color: Color) -> np.ndarray:
        decoded.append(size)
        if len(decoded) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return to_pixels(image, size, color)

    monkeypatch.setattr(pixel_cache, "to_pixels", signalled)
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as stopped:
        train(tiny_config("data.n=2000", f"tracking.root={tmp_path / 'runs'}"), tmp_path / "out")
    assert stopped.value.code == 128 + signal.SIGINT
    assert len(decoded) < 1000
    assert not (tmp_path / "runs").exists()  # no run had begun


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    over = (*TINY, "data.n=400", "trainer.max_epochs=50", "hydra.run.dir=out")
    process = subprocess.Popen(
        [sys.executable, "-m", "eyegender.train", *over], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch  1/50"):
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "resume with ckpt_path=" in output
    assert "Traceback" not in output
    assert only_run(tmp_path).info.status == "KILLED"
