from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eyegender.data.data_module import EyesDataModule
from eyegender.errors import UserError
from eyegender.training.build import build_trainer, trainer_arguments
from eyegender.training.run import train
from tests.composing import tiny_config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.precision=17-mixed", "correct trainer.precision"),
        ("trainer.accelerator=abacus", "trainer.accelerator"),
        ("trainer.strategy=luck", "or trainer.strategy"),
        ("trainer=gpu", "needs a GPU"),
        ("model.head=big", "unknown head 'big'"),
        ("model.finetune_depth=20", "finetune_depth must be 0..19"),
        ("data.size=31", "at least 32x32 pixels, got 31"),
        ("model.backbone._target_=eyegender.nothing", "no class eyegender.nothing"),
    ],
)
def test_every_value_is_checked_before_data_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, override: str, told: str
) -> None:
    if override == "trainer=gpu" and torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr(EyesDataModule, "setup", lambda *_: pytest.fail("read the data"))
    with pytest.raises(UserError, match=told):
        train(tiny_config(override), tmp_path / "run")
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("override", ["precision=abc", "accelerator=abacus", "strategy=luck"])
def test_what_lightning_does_not_know_is_one_line(override: str) -> None:
    with pytest.raises(UserError, match="^trainer: .*; correct trainer.precision"):
        build_trainer(trainer_arguments(tiny_config(f"trainer.{override}")), logger=False)
