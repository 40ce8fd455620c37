"""Fits of a network of one weight, in milliseconds, interrupted at every point: reports and checkpoints agree."""

from __future__ import annotations

import math
import shutil
import signal
import types
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from eyegender.tracking.names import stored_name
from eyegender.training.callbacks import EpochHistory, fit_callbacks, row_of_epoch, stored_history
from eyegender.training.checkpoints import BestCheckpoint, SafeCheckpointIO, load_checkpoint
from eyegender.training.interruptions import StoppedBySignalError, StopSignal
from eyegender.training.resume import load_latest
from hydra_plugins.optuna_study import TrialHandle, TrialPruned

ACCURACIES = [0.5, 0.875, 0.625, 0.625]
BEST = 2
BATCHES = 2


class OneWeight(pl.LightningModule):
    """Its validation accuracies are given; its weight is the number of steps that were taken."""

    def __init__(self, accuracies: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.accuracies = accuracies
        self.epoch_values: dict[str, float] = {}

    def training_step(self, *_: Any) -> torch.Tensor:
        return -self.weight

    def validation_step(self, *_: Any) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        accuracy = self.accuracies[self.current_epoch]
        self.epoch_values = {"train/loss": 0.0, "train/accuracy": 0.0, "val/loss": 0.0, "val/accuracy": accuracy}
        self.log_dict(self.epoch_values, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {"key": "the run's"}

    def current_lr(self) -> float:
        return 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Recorder:
    """A tracker that keeps what it receives."""

    def __init__(self) -> None:
        self.rows: dict[int, float] = {}

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.setdefault(step, values[stored_name("val/accuracy")])


class Interrupt(pl.Callback):
    """Sends the signal in the named hook of the epoch, counted from 0."""

    def __init__(self, stop: StopSignal, hook: str, epoch: int) -> None:
        self.stop, self.hook, self.epoch = stop, hook, epoch
        setattr(self, hook, self.reached)

    def reached(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self.stop._number = signal.SIGTERM


class Fit:
    """A fit that may be interrupted, and what was left of it."""

    def __init__(self, folder: Path, accuracies: list[float] | None = None, max_steps: int = -1) -> None:
        self.folder, self.accuracies, self.max_steps = folder, accuracies or ACCURACIES, max_steps
        self.recorder = Recorder()

    def run(
        self,
        *more: pl.Callback,
        resumed: Path | None = None,
        stop: StopSignal | None = None,
        trial: TrialHandle | None = None,
        io: SafeCheckpointIO | None = None,
        max_epochs: int = 4,
        mode: str = "max",
    ) -> tuple[EpochHistory, BestCheckpoint, OneWeight]:
        history = EpochHistory(self.recorder, self.max_steps)  # type: ignore[arg-type]
        callbacks, best = fit_callbacks(
            self.folder, history, stop or StopSignal(), monitor="val/accuracy", mode=mode, trial=trial, resumed=resumed
        )
        module = OneWeight(self.accuracies)
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=max_epochs, logger=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, plugins=[io or SafeCheckpointIO()],
            callbacks=[*more, *callbacks], default_root_dir=self.folder,
        )  # fmt: skip
        loader = DataLoader(TensorDataset(torch.arange(2.0 * BATCHES)), batch_size=2)
        trainer.fit(module, loader, loader, ckpt_path=resumed, weights_only=True)
        history.send()
        return history, best, module

    def resume(self) -> tuple[EpochHistory, BestCheckpoint, OneWeight]:
        return self.run(resumed=load_latest(self.folder / "last.ckpt")[0])

    def assert_complete(self, history: EpochHistory, best: BestCheckpoint, reported: int = BEST) -> None:
        assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
        assert [row["val/accuracy"] for row in history.rows] == self.accuracies
        assert self.recorder.rows == dict(enumerate(self.accuracies, 1))
        held = load_checkpoint(Path(best.best_model_path))
        assert held["epoch"] + 1 == reported
        assert held["state_dict"]["weight"] == reported * BATCHES
        assert row_of_epoch(history.rows, reported)["val/accuracy"] == float(best.best_model_score)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    return Fit(tmp_path / "checkpoints")


HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_end", "on_train_epoch_end",
    "on_train_epoch_start",
)  # fmt: skip


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("hook", HOOKS)
def test_best_ckpt_holds_the_reported_epoch_wherever_a_signal_comes(fit: Fit, hook: str, epoch: int) -> None:
    stop = StopSignal()
    with pytest.raises(StoppedBySignalError) as stopped:
        fit.run(Interrupt(stop, hook, epoch), stop=stop)
    assert stopped.value.checkpoint == fit.folder / "last.ckpt"
    finished = len(fit.recorder.rows)
    rows = stored_history(load_checkpoint(fit.folder / "last.ckpt"))
    assert len(rows) == finished == epoch + ("batch" not in hook and hook != "on_train_epoch_start")
    history, best, module = fit.resume()
    fit.assert_complete(history, best)
    assert module.weight == 4 * BATCHES


@pytest.mark.parametrize("hook", HOOKS)
def test_a_signal_in_the_last_epoch_after_its_steps_lets_the_run_end(fit: Fit, hook: str) -> None:
    stop = StopSignal()
    interrupt = Interrupt(stop, hook, 3)
    if "batch" in hook or hook == "on_train_epoch_start":
        with pytest.raises(StoppedBySignalError):
            fit.run(interrupt, stop=stop)
        fit.assert_complete(*fit.resume()[:2])
    else:
        fit.assert_complete(*fit.run(interrupt, stop=stop)[:2])


class DiesAt(SafeCheckpointIO):
    """A process that is killed as it writes this checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        self.number -= 1
        if self.number < 0:
            raise SystemExit
        super().save_checkpoint(*arguments, **options)


# Written are best and last of the first epoch, best and last of the second, then last ones.
@pytest.mark.parametrize("written", range(1, 6))
def test_best_ckpt_holds_the_reported_epoch_after_a_kill_between_two_checkpoints(fit: Fit, written: int) -> None:
    with pytest.raises(SystemExit):
        fit.run(io=DiesAt(written))
    if written == 1:  # before the first last.ckpt
        assert not (fit.folder / "last.ckpt").exists()
        return
    assert max(fit.recorder.rows, default=0) <= load_latest(fit.folder / "last.ckpt")[1]["epoch"] + 1
    fit.assert_complete(*fit.resume()[:2])


def test_a_kill_after_a_best_epoch_resumes_after_it(fit: Fit) -> None:
    with pytest.raises(SystemExit):
        fit.run(io=DiesAt(3))
    path, checkpoint = load_latest(fit.folder / "last.ckpt")
    assert (path.name, checkpoint["epoch"]) == ("best.ckpt", 1)
    other = load_checkpoint(fit.folder / "best.ckpt") | {"run": {"key": "another run's"}}
    torch.save(other, fit.folder / "best.ckpt")
    assert load_latest(fit.folder / "last.ckpt")[0].name == "last.ckpt"


def test_a_run_whose_folder_was_moved_keeps_its_best_epoch(fit: Fit) -> None:
    fit.run(max_epochs=3)
    moved = fit.folder.with_name("moved")
    fit.folder.rename(moved)
    fit.assert_complete(*fit.run(resumed=moved / "last.ckpt")[:2])
    assert (fit.folder / "best.ckpt").is_file()
    assert not list(fit.folder.glob(".*"))


def test_without_the_best_checkpoint_a_later_epoch_is_reported(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    fit.run(max_epochs=2)
    (fit.folder / "best.ckpt").unlink()
    fit.assert_complete(*fit.resume()[:2], reported=3)
    assert "the best.ckpt of the best epoch so far (val/accuracy 0.8750) is missing" in caplog.text


def test_a_best_checkpoint_of_something_else_is_not_used(fit: Fit) -> None:
    fit.run(max_epochs=2)
    shutil.copyfile(fit.folder / "last.ckpt", fit.folder / "best.ckpt")
    other = load_checkpoint(fit.folder / "best.ckpt")
    for state in other["callbacks"].values():
        if "best_model_score" in state and state["monitor"]:
            state["best_model_score"] = torch.tensor(0.1)
    torch.save(other, fit.folder / "best.ckpt")
    fit.assert_complete(*fit.resume()[:2], reported=3)


@pytest.mark.parametrize("max_steps", [1, 2, 3, 4])
def test_a_run_that_was_limited_in_steps_resumes_after_its_last_epoch(fit: Fit, max_steps: int) -> None:
    fit.max_steps = max_steps
    first, _, _ = fit.run()
    fit.max_steps = max_steps + 3
    history, best, module = fit.resume()
    assert module.weight == max_steps + 3
    numbers = [row["epoch"] for row in history.rows]
    assert numbers == list(range(1, len(numbers) + 1))
    assert history.rows[: len(first.rows)] == first.rows
    held = load_checkpoint(Path(best.best_model_path))["epoch"] + 1
    assert row_of_epoch(history.rows, held)["val/accuracy"] == max(row["val/accuracy"] for row in history.rows)


@pytest.mark.parametrize("max_steps", [3, 4])
def test_a_signal_at_the_last_of_all_steps_lets_the_run_end(fit: Fit, max_steps: int) -> None:
    fit.max_steps = max_steps
    stop = StopSignal()

    def at_last_step(_: pl.Callback, trainer: pl.Trainer, *__: Any) -> None:
        if trainer.global_step == max_steps:
            stop._number = signal.SIGTERM

    interrupt = pl.Callback()
    interrupt.on_train_batch_end = types.MethodType(at_last_step, interrupt)  # type: ignore[method-assign]
    history, _, _ = fit.run(interrupt, stop=stop)
    assert [row["epoch"] for row in history.rows] == [1, 2]


class PrunedAlways(TrialHandle):
    """A trial whose pruner says yes whenever it is asked."""

    def __init__(self, pruned_from: int = 1) -> None:
        super().__init__(
            number=0, study_name="s", params={}, attempt=0, directory="", user_attrs={}, study_attrs={}, reported={},
            is_rank_zero=True,
        )  # fmt: skip
        self.pruned_from = pruned_from

    def report(self, value: float, step: int) -> None:
        self.reported[step] = value

    def should_prune(self) -> bool:
        return (self.last_step or 0) >= self.pruned_from


def test_a_pruned_trial_leaves_the_checkpoints_of_what_it_reported(fit: Fit) -> None:
    trial = PrunedAlways(pruned_from=2)
    with pytest.raises(TrialPruned, match="pruned after epoch 2"):
        fit.run(trial=trial)
    assert trial.reported == {1: 0.5, 2: 0.875}
    assert fit.recorder.rows == trial.reported
    assert [load_checkpoint(fit.folder / name)["epoch"] for name in ("best.ckpt", "last.ckpt")] == [1, 1]


@pytest.mark.parametrize(("max_epochs", "max_steps"), [(1, -1), (4, 1), (4, 2)])
def test_a_finished_trial_is_not_pruned_after_its_end(fit: Fit, max_epochs: int, max_steps: int) -> None:
    fit.max_steps = max_steps
    history, _, _ = fit.run(trial=PrunedAlways(), max_epochs=max_epochs)
    assert len(history.rows) == 1


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_the_best_epoch(fit: Fit, mode: str) -> None:
    fit.accuracies = [math.nan, 0.25, 0.75, math.nan]
    _, best, _ = fit.run(mode=mode)
    assert load_checkpoint(Path(best.best_model_path))["epoch"] + 1 == {"min": 2, "max": 3}[mode]
