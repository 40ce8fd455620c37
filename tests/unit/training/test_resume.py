"""What a command may change in a resumed run; needs only composed configs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig, parse
from eyegender.training.resume import check_config, checkpoint_config
from tests.composing import SMALL, compose_config

RUN = Path("run/checkpoints/last.ckpt")
FOLDER = ("data=folder", "data.root=/one/machine")


@cache
def tiny_config(*overrides: str) -> TrainConfig:
    return parse(compose_config(*([] if "data=folder" in overrides else ["data.n=60"]), *SMALL, *overrides))


def checkpoint(*overrides: str, epochs: int = 2, batches: int = 0) -> dict[str, Any]:
    """Of a run with these overrides, after so many epochs of 3 batches and batches of the next."""
    begun = epochs + (batches > 0)
    loops = {
        "epoch_progress": {"current": {"started": begun, "processed": epochs}},
        "epoch_loop.batch_progress": {"current": {"processed": batches or 3}, "is_last_batch": not batches},
    }
    config = checkpoint_config(tiny_config(*overrides))
    return {"config": config, "loops": {"fit_loop": loops}, "global_step": 3 * epochs + batches}


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ((), ("model.lr=0.01",), "model.lr=0.001, got 0.01; set model.lr=0.001,"),
        ((), ("trainer.batch_size=8",), "trainer.batch_size=16, got 8; set trainer.batch_size=16"),
        ((), ("trainer.gradient_clip=null",), "trainer.gradient_clip=1.0, got null"),
        ((), ("seed=1",), "seed=0, got 1; set seed=0,"),  # and not data.split.seed, which is written as ${seed}
        ((), ("model.head_lr=0.5",), r"model.head_lr=\$\{model.lr\}, got 0.5"),
        ((), ("scheduler=cosine",), "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR, got torch.optim.lr_s"),
        ((), ("optimizer=sgd",), "optimizer._target_=torch.optim.AdamW, got torch.optim.SGD"),
        ((), ("optimizer.weight_decay=0.1",), "optimizer.weight_decay=0.05, got 0.1"),
        ((), ("model.ema=0.9",), "model.ema=null, got 0.9"),
        ((), ("monitor=val/loss",), "monitor=val/accuracy, got val/loss; set monitor=val/accuracy,"),
        ((), ("data.subset={female: 5, male: 5}",), "data.subset=null, got "),
        ((), ("data.augment.flip=0",), "data.augment.flip=0.5, got 0"),
        ((), ("data.n=80",), "data.n=60, got 80"),
        (("model.weights=a.pth",), ("model.weights=b.pth",), "model.weights=a.pth, got b.pth"),
        (FOLDER, (*FOLDER, "data.classes=[maleeyes,femaleeyes]"), "data.classes="),
    ],
)
def test_options_of_a_trained_run_cannot_change(before: tuple[str, ...], now: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"ckpt_path={RUN} was trained with {message}") as refused:
        check_config(checkpoint(*before), tiny_config(*now), RUN)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((), ("trainer=auto", "trainer.max_epochs=2", "trainer.batch_size=16", "trainer.precision=bf16-mixed")),
        ((), ("trainer.devices=2", "trainer.num_nodes=2", "trainer.threads=1", "trainer.eval_batch_size=1")),
        ((), ("features=on", "features.views=1")),
        ((), ("tracking.experiment=other", "tracking.root=elsewhere", "tracking.run_name=mine")),
        ((), (f"ckpt_path={RUN}", "run_test=false", "objectives=[val/loss]")),
        ((), ("model.head_lr=0.001",)),  # what ${model.lr} means
        (("model.lr=1e-3",), ("model.lr=0.0010",)),
        (FOLDER, ("data=folder", "data.root=/another/machine")),
        (("data.split.by=file", "data.split.file=a/s.csv"), ("data.split.by=file", "data.split.file=b/s.csv")),
    ],
)
def test_keys_of_the_machine_may_change(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    assert check_config(checkpoint(*before), tiny_config(*now), RUN) == []


def test_a_run_may_become_longer() -> None:
    changes = check_config(checkpoint(), tiny_config("trainer.max_epochs=7", "trainer.max_steps=20"), RUN)
    assert [tuple(change) for change in changes] == [("trainer.max_epochs", 2, 7), ("trainer.max_steps", -1, 20)]


@pytest.mark.parametrize(
    ("batches", "overrides", "message"),
    [
        (0, ("trainer.max_epochs=1",), "trainer.max_epochs must be 2 or more, as many as ckpt_path=.* got 1; set "),
        (1, ("trainer.max_epochs=2",), "trainer.max_epochs must be 3 or more"),  # it has begun the third
        (0, ("trainer.max_steps=5",), "trainer.max_steps must be 6 or more"),
        (1, ("trainer.max_epochs=3", "trainer.max_steps=7"), "trainer.max_steps must be 8 or more"),
    ],
)
def test_a_run_cannot_become_shorter_than_it_is(batches: int, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(checkpoint(batches=batches), tiny_config(*overrides), RUN)


@pytest.mark.parametrize("overrides", [(), ("trainer.max_steps=6",)])
def test_a_finished_run_may_be_resumed_unchanged(overrides: tuple[str, ...]) -> None:
    check_config(checkpoint(*overrides), tiny_config(*overrides), RUN)


def test_checkpoints_without_a_config_are_compared_with_hydras_config_file(tmp_path: Path) -> None:
    old = checkpoint()
    del old["config"]
    path = tmp_path / RUN
    assert check_config(old, tiny_config("model.lr=0.01"), path) == []  # nothing says what it was
    stored = tmp_path / "run/.hydra/config.yaml"
    stored.parent.mkdir(parents=True)
    stored.write_text(OmegaConf.to_yaml(compose_config("data.n=60", *SMALL)))
    assert check_config(old, tiny_config(), path) == []
    with pytest.raises(UserError, match="model.lr=0.001, got 0.01"):
        check_config(old, tiny_config("model.lr=0.01"), path)
    without = yaml.safe_load(stored.read_text())
    del without["model"]["mixup"]  # a key that came later
    stored.write_text(yaml.safe_dump({**without, "gone": 1}))
    assert check_config(old, tiny_config(), path) == []


def test_a_checkpoint_contains_no_secret() -> None:
    stored = checkpoint_config(tiny_config("data=folder", "data.root=s3://me:canary@host/x", "tracking.uri=x"))
    assert "canary" not in str(stored)
    assert "tracking" not in stored
