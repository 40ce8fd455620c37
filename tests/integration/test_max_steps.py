"""A run that is limited in steps ends with a validation, wherever in an epoch its last step falls."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl

from eyegender.training.run import train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration


def test_the_last_step_may_fall_into_the_middle_of_an_epoch(tmp_path: Path) -> None:
    overrides = ("trainer.max_steps=4", "trainer.max_epochs=5", "model.finetune_depth=0", "run_test=false")
    result = train(tiny_config(*overrides, f"tracking.root={tmp_path / 'mlruns'}"), tmp_path / "out")
    assert result.trainer.global_step == 4  # three an epoch
    assert [row["epoch"] for row in result.history] == [1, 2]
    whole, cut = (sum(row[f"train/{name}"] for name in ("tn", "fp", "fn", "tp")) for row in result.history)
    assert 0 < cut < whole / 2  # a row's metrics are of its own pictures


def test_callbacks_of_the_caller_are_called_with_the_trainer(tmp_path: Path) -> None:
    class Steps(pl.Callback):
        def __init__(self) -> None:
            self.at_epoch_end: list[int] = []

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.at_epoch_end.append(trainer.global_step)

    steps = Steps()
    overrides = ("trainer.max_epochs=2", "model.finetune_depth=0", "run_test=false")
    config = tiny_config(*overrides, f"tracking.root={tmp_path / 'mlruns'}")
    train(config, tmp_path / "out", callbacks=[steps])
    assert steps.at_epoch_end == [3, 6]
