"""What this package uses of Lightning beyond its documented interface, and what its checkpoints call by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities import rank_zero_only
from lightning_fabric.utilities.exceptions import MisconfigurationException
from packaging.requirements import Requirement
from packaging.version import Version
from pytorch_lightning.callbacks import ModelCheckpoint

from eyegender.models.optimization import Progress, progress_of
from eyegender.training.callbacks import HISTORY_KEY, EpochHistory
from eyegender.training.checkpoints import BestCheckpoint

VERSIONS = ">=2.6,<2.7"  # of pytorch_lightning, for which the tests below hold


def test_the_installed_version_is_one_that_these_tests_hold_for() -> None:
    assert Version(pl.__version__) in Requirement(f"pytorch-lightning{VERSIONS}").specifier
    assert f'"pytorch-lightning{VERSIONS}"' in (Path(__file__).parents[3] / "pyproject.toml").read_text()


def test_names_that_are_imported_from_lightning_fabric() -> None:
    assert not LightningEnvironment().creates_processes_externally
    assert issubclass(MisconfigurationException, Exception)
    assert getattr(rank_zero_only, "rank", 0) == 0


def test_the_position_in_a_checkpoint(tmp_path: Path) -> None:
    """`progress_of` reads the state of Lightning's loops."""

    class OneWeight(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, *_: object) -> torch.Tensor:
            return self.weight

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(OneWeight(), torch.utils.data.DataLoader(torch.zeros(3)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert progress_of(torch.load(tmp_path / "last.ckpt", weights_only=True)) == Progress(2, 0, 6)


@pytest.mark.parametrize(("monitor", "mode"), [("val/accuracy", "max"), ("val/loss", "min")])
def test_keys_of_callback_states_are_those_of_version_0_1(tmp_path: Path, monitor: str, mode: str) -> None:
    """Lightning finds the state of a callback by its class name, so a renamed class would lose it."""
    options = "'every_n_train_steps': 0, 'every_n_epochs': 1, 'train_time_interval': None"
    best = BestCheckpoint(dirpath=tmp_path, monitor=monitor, mode=mode)
    assert best.state_key == f"BestCheckpoint{{'monitor': '{monitor}', 'mode': '{mode}', {options}}}"
    assert ModelCheckpoint(dirpath=tmp_path).state_key.startswith("ModelCheckpoint{'monitor': None")
    assert EpochHistory(None).state_key == HISTORY_KEY == "Epochs"
