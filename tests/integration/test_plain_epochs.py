"""Epochs over stored activations, without Lightning's loop and with it: equal results, interchangeable checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from eyegender.training import run as run_module
from eyegender.training.callbacks import StopOnSignal
from eyegender.training.checkpoints import load_checkpoint
from eyegender.training.plain_epochs import PlainEpochs
from eyegender.training.run import RunResult, train
from tests.composing import tiny_config
from tests.stores import give_store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

# Lightning counts these steps for its loggers, and there are none.
FOR_LOGGERS = "_batches_that_stepped"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYEGENDER_CACHE", str(session_cache))
    monkeypatch.chdir(tmp_path)
    give_store(tmp_path / "mlruns")


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The epochs that the plain loop has trained, as their numbers from 0."""
    trained: list[str] = []
    original = PlainEpochs._train

    def train_epoch(self: PlainEpochs) -> None:
        trained.append(str(self.trainer.current_epoch))
        original(self)

    monkeypatch.setattr(PlainEpochs, "_train", train_epoch)
    return trained


def fit(folder: str, *overrides: str, plain: bool = True, **options: Any) -> RunResult:
    with pytest.MonkeyPatch.context() as patch:
        if not plain:
            patch.setattr(run_module, "can_train_plainly", lambda *_: False)
        config = tiny_config(
            "features=on", "model.finetune_depth=0", "run_test=false", "trainer.max_epochs=3", "tracking.root=mlruns",
            *overrides,
        )  # fmt: skip
        return train(config, Path(folder).absolute(), **options)


def rows(result: RunResult) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "epoch_seconds"} for row in result.history]


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two checkpoints differ, except for the folder, the run and the seconds."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            if key not in {"run", "epoch_seconds", "dirpath", "best_k_models", FOR_LOGGERS} and "path" not in str(key):
                yield from differences(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}/{i}")
    elif not (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other):
        yield f"{path}: {one} and {other}"


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.ema=0.8", "model.label_smoothing=0.1", "scheduler=cosine", "monitor=val/loss"),
        ("model.finetune_depth=2", "model.ema=0.8", "optimizer=sgd", "trainer.gradient_clip=null"),
        ("trainer.max_steps=5", "scheduler=none", "trainer.precision=bf16-mixed"),
    ],
    ids=["plain", "average", "depth 2", "max_steps"],
)
def test_both_loops_give_the_same_metrics_and_checkpoints(epochs: list[str], overrides: tuple[str, ...]) -> None:
    ours = fit("ours", *overrides)
    trained = len(epochs)
    assert trained == len(ours.history)
    lightnings = fit("lightnings", *overrides, plain=False)
    assert len(epochs) == trained
    assert rows(ours) == rows(lightnings)
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (load_checkpoint(Path(folder) / "checkpoints" / name) for folder in ("ours", "lightnings"))
        assert list(differences(one, other)) == []


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("ema", ["null", "0.8"])
@pytest.mark.parametrize("stop", [5, 6], ids=["in an epoch", "after an epoch"])
def test_a_run_that_one_loop_was_interrupted_in_continues_in_the_other(
    epochs: list[str], monkeypatch: pytest.MonkeyPatch, *, plain: bool, ema: str, stop: int
) -> None:
    overrides = ("data.split.seed=0", f"model.ema={ema}")
    whole = fit("whole", *overrides)
    del epochs[:]
    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "_signal_of_any_rank", lambda _, trainer: 15 * (trainer.global_step >= stop))
        with pytest.raises(SystemExit):
            fit("begun", *overrides, plain=plain)
    stopped = load_checkpoint(Path("begun/checkpoints/last.ckpt"))
    assert stopped["global_step"] == stop
    continued = fit("begun", *overrides, "ckpt_path=begun/checkpoints/last.ckpt", plain=not plain)
    # Lightning's loop finishes an epoch that was interrupted in its middle.
    expected = ["0", "1"] if plain else ["2"]
    assert epochs == expected
    assert rows(continued) == rows(whole)
    one, other = (load_checkpoint(Path(folder) / "checkpoints" / "last.ckpt") for folder in ("whole", "begun"))
    assert list(differences(one["state_dict"], other["state_dict"])) == []


def test_the_average_is_lightnings_and_frozen_weights_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("model.finetune_depth=2", "model.ema=0.8", "scheduler=none")
    ours = fit("ours", *overrides, plain=False)
    with monkeypatch.context() as patch:
        patch.setattr("eyegender.training.callbacks.AveragedWeights", lambda decay: EMAWeightAveraging(decay=decay))
        lightnings = fit("lightnings", *overrides, plain=False)
    assert rows(ours) == rows(lightnings)
    one, other = (load_checkpoint(Path(folder) / "checkpoints" / "last.ckpt") for folder in ("ours", "lightnings"))
    frozen = {f"network.stages.{name}" for name in ours.module.network.prefix.state_dict()}
    assert 0 < len(frozen) < len(one["state_dict"])
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, (one["current_model_state"] if name in frozen else other["state_dict"])[name]), name
    # A run that began with Lightning's callback continues with ours.
    longer = ("trainer.max_epochs=4", *overrides)
    continued = fit("lightnings", *longer, "ckpt_path=lightnings/checkpoints/last.ckpt")
    assert rows(continued) == rows(fit("longer", *longer))


class Watcher(pl.Callback):
    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches += 1


def test_lightnings_loop_trains_where_something_else_takes_part(epochs: list[str]) -> None:
    watcher = Watcher()
    watched = fit("watched", callbacks=[watcher])
    assert watcher.batches == 3 * 3
    fit("halved", "trainer.on_oom=halve")
    fit("without", "features=off")
    assert epochs == []
    assert rows(fit("ours")) == rows(watched)
    assert epochs == ["0", "1", "2"]
