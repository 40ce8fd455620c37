from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from lightning_fabric.utilities import rank_zero_only

from eyegender.core.errors import UserError
from eyegender.data.data_module import EyesDataModule
from eyegender.training.build import (
    build_network,
    build_trainer,
    check_smallest_batch,
    check_trainer,
    trainer_settings,
)
from eyegender.training.run import train
from tests.composing import tiny_config


@pytest.mark.parametrize("override", ["accelerator=abacus", "strategy=luck"])
def test_settings_unknown_to_lightning_are_one_line(override: str) -> None:
    with pytest.raises(UserError, match="^trainer: .*; correct trainer.precision"):
        build_trainer(trainer_settings(tiny_config(f"trainer.{override}")), logger=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.batch_size=1", "trainer.batch_size must leave no batch of one image .*, got 1; set "),
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed needs a GPU, got a CPU; set trainer.precision="),
        ("trainer.devices=999", "trainer.devices must be at most .* on a CPU, .* got 999; set trainer.devices="),
        ("trainer.accelerator=abacus", "correct trainer.precision, trainer.accelerator"),
        ("trainer.strategy=luck", "correct trainer.precision, trainer.accelerator"),
        ("model.finetune_depth=20", "finetune_depth must be 0..19 for mobilenet_v2"),
        ("model.head=big", "unknown head 'big'"),
        ("data.size=31", "at least 32x32 pixels, got 31"),
        ("model.backbone._target_=eyegender.nothing", "no class eyegender.nothing"),
        ("model.weights=nowhere.pth", "model.weights: no file nowhere.pth"),
        ("model.weights=empty.pth", "model.weights: .*empty.pth cannot be read"),
        ("ckpt_path=nowhere.ckpt", "no checkpoint nowhere.ckpt"),
        ("ckpt_path=empty.pth", "checkpoint empty.pth is damaged"),
    ],
)
def test_every_value_is_checked_before_data_is_read(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pth").touch()
    monkeypatch.setattr(EyesDataModule, "setup", lambda *_: pytest.fail("data were read"))
    with pytest.raises(UserError, match=message) as refused:
        train(tiny_config(override), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("depth", "size", "smallest", "trains"),
    [(0, 32, 1, True), (19, 32, 1, False), (1, 32, 1, False), (19, 32, 2, True), (19, 96, 1, True)],
)
def test_a_batch_of_one_is_refused_where_batch_norm_cannot_train_on_it(
    depth: int, size: int, smallest: int, trains: bool
) -> None:
    cfg = tiny_config(f"model.finetune_depth={depth}", f"data.size={size}", f"trainer.batch_size={smallest}")
    network = build_network(cfg).network
    with nullcontext() if trains else pytest.raises(UserError, match="or a smaller model.finetune_depth"):
        check_smallest_batch(network, cfg, size, smallest)
    # What torch itself says to such a step.
    with nullcontext() if trains else pytest.raises(ValueError, match="more than 1 value per channel"):
        network.train()(torch.zeros(smallest, 1, size, size, dtype=torch.uint8))


def test_a_last_batch_of_one_image_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 2; set trainer.batch_size=3 or more"):  # 45 images train
        train(tiny_config("trainer.batch_size=2", "data.n=63"), tmp_path / "out")
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(("tasks", "alone"), [("1", True), (None, True), ("2", False)])
def test_a_single_task_of_slurm_starts_its_processes_itself(
    monkeypatch: pytest.MonkeyPatch, tasks: str | None, alone: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which Lightning sets
    slurm = {
        "NODEID": "0",
        "NTASKS": tasks,
        "NTASKS_PER_NODE": tasks,
        "JOB_ID": "7",
        "PROCID": "0",
        "LOCALID": "0",
        "NNODES": "1",
    }
    for name, value in slurm.items():
        if tasks is not None and value is not None:
            monkeypatch.setenv(f"SLURM_{name}", value)
    cfg = tiny_config("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    trainer = build_trainer(trainer_settings(cfg), logger=False)
    environment = trainer.strategy.cluster_environment
    assert environment.creates_processes_externally is not alone
    assert trainer.world_size == 2


def test_more_tasks_than_devices_are_refused_with_the_launchers_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "4", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    cfg = tiny_config("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    with pytest.raises(UserError, match="^trainer: .*hydra.launcher.tasks_per_node=1"):
        check_trainer(trainer_settings(cfg))
