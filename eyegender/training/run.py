"""One training run from a checked config to a finished MLflow run, told as a story."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from eyegender.core.command import quiet_libraries
from eyegender.core.errors import UserError, translate_disk_errors
from eyegender.core.progress import stoppable
from eyegender.features.plan import use_activations
from eyegender.models.finite_check import NotFiniteError
from eyegender.models.micro_batches import is_out_of_memory
from eyegender.models.optimization import progress_of
from eyegender.tracking.check import check_store
from eyegender.tracking.location import find_location
from eyegender.training import autotune as quick_training
from eyegender.training.build import (
    BuiltModel,
    BuiltNetwork,
    backbone_class,
    build_data,
    build_model,
    build_network,
    build_trainer,
    check_smallest_batch,
    check_trainer,
    trainer_arguments,
)  # fmt: skip
from eyegender.training.callbacks import fit_callbacks
from eyegender.training.checkpoint_fit import check_fits
from eyegender.training.checkpoint_io import SafeCheckpointIO, load_checkpoint
from eyegender.training.epochs import Epochs, row_of
from eyegender.training.failures import not_finite, out_of_memory
from eyegender.training.freed_memory import keep_freed_memory
from eyegender.training.outputs import write_outputs
from eyegender.training.requeue import requeued
from eyegender.training.result import RunResult
from eyegender.training.resume import Change, check_config, check_data, load_latest
from eyegender.training.run_lock import RunLock, run_folder
from eyegender.training.run_tracking import began_in_of, begin_tracking, origin
from eyegender.training.sharing_trials import sharing_trials
from eyegender.training.stop_signal import StoppedBySignalError, StopSignal
from eyegender.training.summary import print_summary, wants_bars
from eyegender.training.trial_callback import checkpoint_to_continue
from hydra_plugins.optuna_study import TrialHandle, TrialInterrupted, TrialLost, TrialPruned, current_trial

if TYPE_CHECKING:
    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.tracking.tracker import Tracker

log = logging.getLogger("eyegender")


def train(cfg: TrainConfig, output_dir: Path, overrides: list[str] | None = None) -> RunResult:
    """Train, choose the best checkpoint by validation, test it, and leave a complete MLflow run.

    Inside a trial of a sweep it reports to the trial, goes on from the trial's last checkpoint, and leaves signals to
    the sweep's worker. In a job that Slurm has started again it goes on from the last checkpoint in its folder.

    Raises:
        UserError: whatever the user can repair.
        SystemExit: 128 + signal number, after SIGTERM or Ctrl-C; `last.ckpt` is where to go on.
        TrialPruned, TrialInterrupted, TrialLost: inside a trial.
    """
    quiet_libraries()
    keep_freed_memory()
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    output_dir.mkdir(parents=True, exist_ok=True)
    trial = current_trial()
    if trial is not None:
        trial.defer_interrupt()
    if trial is not None or requeued():
        cfg = cfg.model_copy(update={"ckpt_path": cfg.ckpt_path or checkpoint_to_continue(output_dir)})
    with StopSignal(trial).caught() as stop, warnings.catch_warnings():
        # Lightning's hints at more worker processes and bigger logging intervals do not apply to whole-batch loaders.
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
        try:
            return _Run(cfg, output_dir, overrides or [], stop, trial).go()
        finally:
            # A worker's next trial starts ranks of its own; the ones of this trial end with it.
            if trial is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


class _Run:
    """The stretches of one run, in order; what one of them makes, the later ones use."""

    data: EyesDataModule
    built: BuiltModel
    trainer: pl.Trainer

    def __init__(
        self, cfg: TrainConfig, output_dir: Path, overrides: list[str], stop: StopSignal, trial: TrialHandle | None
    ) -> None:
        self.cfg, self.output_dir, self.overrides, self.stop, self.trial = cfg, output_dir, overrides, stop, trial
        self.began = time.monotonic()
        self.epochs = Epochs(None, cfg.trainer.max_steps)
        self.changes: list[Change] = []
        self.tracker: Tracker | None = None

    def go(self) -> RunResult:
        with RunLock(refuse=self.trial is None) as lock:
            lock.take(self.output_dir)
            checkpoint = self._checkpoint(lock)
            return self._go(checkpoint)

    def _checkpoint(self, lock: RunLock) -> dict[str, Any] | None:
        """What the run goes on from, once nobody else does and it asks for nothing that cannot be had any more."""
        if self.cfg.ckpt_path is None:
            return None
        path = Path(self.cfg.ckpt_path)
        if path.is_file():
            lock.take(run_folder(path))
        path, checkpoint = load_latest(path)
        self.cfg = self.cfg.model_copy(update={"ckpt_path": str(path)})
        if (began_in := began_in_of(checkpoint)) is not None:
            lock.take(began_in)
        self.changes = check_config(checkpoint, self.cfg, path)
        return checkpoint

    def _go(self, checkpoint: dict[str, Any] | None) -> RunResult:
        cfg = self.cfg
        # A store that takes nothing is told before any work.
        check_store(find_location(cfg.tracking.uri, cfg.tracking.root))
        arguments = trainer_arguments(cfg)
        check_trainer(arguments)
        network = self._build_network(checkpoint)
        try:
            self._read_data()
        except StoppedBySignalError as stopped:
            raise self._stopped(stopped) from None
        self._build_model(checkpoint, network)
        data = self.data
        quick_training.settle(cfg, arguments, network.network, len(data.split.train), data.size)
        self._make_trainer(arguments, checkpoint)
        per_rank = -(-len(data.split.train) // self.trainer.world_size)
        batches = -(-per_rank // cfg.trainer.batch_size)
        check_smallest_batch(network.network, cfg, data.size, per_rank // batches)
        if self.trainer.is_global_zero:
            self.tracker = begin_tracking(
                cfg,
                self.output_dir,
                self.overrides,
                self.built,
                self.data,
                precision=str(arguments["precision"]),
                checkpoint=checkpoint,
                trial=self.trial,
                changes=self.changes,
            )
            self.epochs.tracker = self.tracker
            self.epochs.origin = origin(self.tracker, cfg, self.data)
        try:
            result = self._fit_and_test()
        except StoppedBySignalError as stopped:
            raise self._stopped(stopped) from None
        except NotFiniteError as error:
            self._end("FAILED")
            raise not_finite(error, self.data) from error
        except TrialPruned:
            if self.tracker is not None:
                self.tracker.tags({"pruned": "true"})
            self._end("FINISHED")
            raise
        except TrialLost:
            if self.tracker is not None:
                self.tracker.abandon()  # the run is another worker's now
            raise
        except BaseException as error:
            self._end("KILLED" if self.stop.number else "FAILED")
            if is_out_of_memory(error):
                raise out_of_memory(error, self.cfg, self.data, self.trainer.global_step) from error
            raise
        complete = self._end("FINISHED")
        if self.tracker is not None:
            result = replace(result, run_id=self.tracker.run_id)  # known at the latest now
            if self.trial is None:
                self._tell_end(result, self.tracker, complete=complete)
        return result

    def _tell_end(self, result: RunResult, tracker: Tracker, *, complete: bool) -> None:
        print_summary(
            self.cfg,
            result.metrics,
            self.output_dir,
            tracker,
            source=self.data.source,
            positive=self.data.samples.classes[1],
            complete=complete,
        )
        if not complete and (disk_full := tracker.disk_full_error()):
            raise disk_full

    def _read_data(self) -> None:
        self.data = build_data(self.cfg)
        with stoppable(self.stop.check):
            self.data.setup("fit")
        self.stop.check()

    def _build_network(self, checkpoint: dict[str, Any] | None) -> BuiltNetwork:
        """Before pictures are read: mistakes in what the network is made of show at once."""
        cfg = self.cfg
        pl.seed_everything(cfg.seed, verbose=False)
        built = build_network(cfg, fresh=checkpoint is None)
        check_smallest_batch(
            built.network, cfg, backbone_class(cfg.model).check_size(cfg.data.size), cfg.trainer.batch_size
        )
        return built

    def _build_model(self, checkpoint: dict[str, Any] | None, network: BuiltNetwork) -> None:
        cfg, data = self.cfg, self.data
        female, male = np.bincount(data.samples.labels[data.split.train], minlength=2)
        balance = float(female / max(male, 1))
        self.built = build_model(cfg, classes=data.samples.classes, balance=balance, built=network)
        if checkpoint is not None:
            check_fits(checkpoint, self.built.classifier, cfg)
            check_data(checkpoint, data, Path(cfg.ckpt_path or ""))
            # Lightning loads it when the fit begins, but the frozen stages may run before.
            self.built.classifier.load_state_dict(checkpoint["state_dict"])
        if cfg.trainer.channels_last in {True, "auto"}:
            self.built.classifier.network.use_channels_last()

    def _make_trainer(self, arguments: dict[str, Any], checkpoint: dict[str, Any] | None) -> None:
        cfg = self.cfg
        callbacks, self.best = fit_callbacks(
            self.output_dir / "checkpoints",
            self.epochs,
            self.stop,
            monitor=cfg.monitor,
            mode=cfg.mode,
            ema=cfg.model.ema,
            trial=self.trial,
            resumed=None if cfg.ckpt_path is None else Path(cfg.ckpt_path),
        )
        done = None if checkpoint is None else progress_of(checkpoint)
        if done is not None and 0 < cfg.trainer.max_steps <= done.steps:
            arguments = arguments | {"max_epochs": done.epochs}  # nothing is left to train
        bars = wants_bars(cfg.trainer.progress) and self.trial is None
        self.trainer = build_trainer(
            arguments,
            logger=False,
            callbacks=[*callbacks, *([RichProgressBar(leave=False)] if bars else [])],
            plugins=[SafeCheckpointIO()],
            default_root_dir=self.output_dir,
            enable_progress_bar=bars,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        if not self.trainer.is_global_zero:
            log.setLevel(logging.WARNING)  # what is true of all ranks is said by the first

    def _fit_and_test(self) -> RunResult:
        cfg, trainer, data, module = self.cfg, self.trainer, self.data, self.built.classifier
        device = trainer.strategy.root_device
        use_activations(cfg, module, data, device, self.stop.check, trials=sharing_trials(self.trial))
        trainer.fit(module, datamodule=data, ckpt_path=cfg.ckpt_path)
        fitted = time.monotonic() - self.began
        self.epochs.record()
        if not self.best.best_model_path:
            raise UserError(
                f"the best.ckpt of ckpt_path={cfg.ckpt_path} is gone, and no epoch is left to train; put it back, or "
                f"set trainer.max_epochs={cfg.trainer.max_epochs + 1} or more"
            )
        # The best checkpoint is what gets tested, logged and reported.
        best = load_checkpoint(Path(self.best.best_model_path))
        module.load_state_dict(best["state_dict"])
        row = row_of(self.epochs.history, best["epoch"] + 1)
        metrics = {name: value for name, value in row.items() if "/" in name}
        predictions = None
        if cfg.run_test:
            trainer.test(module, datamodule=data, verbose=False)
            predictions = module.predictions("test")
            metrics |= {name: value for name, value in module.epoch_values.items() if name.startswith("test/")}
        if self.tracker is not None:
            facts = {"best_epoch": row["epoch"], "fit_seconds": fitted}
            weights = sum(tensor.nbytes for tensor in module.state_dict().values())
            with translate_disk_errors("weights, metrics and figures", self.output_dir, weights, ", then run again"):
                write_outputs(
                    self.tracker, self.output_dir, cfg, data, self.built,
                    history=self.epochs.history, metrics=metrics, facts=facts, predictions=predictions,
                )  # fmt: skip
        run_id = None if self.tracker is None else self.tracker.run_id
        card = self.built.card
        return RunResult(row[cfg.monitor], metrics, self.epochs.history, self.output_dir, run_id, card, module, trainer)

    def test_again(self, tags: dict[str, str]) -> dict[str, float]:
        cfg, checkpoint = self.cfg, load_checkpoint(self.output_dir / "checkpoints" / "best.ckpt")
        network = self._build_network(checkpoint)
        self._read_data()
        self._build_model(checkpoint, network)
        module = self.built.classifier
        arguments = trainer_arguments(cfg) | {"devices": 1, "strategy": "auto", "num_nodes": 1}
        trainer = pl.Trainer(
            **arguments, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
        try:
            trainer.test(module, datamodule=self.data, verbose=False)
        except NotFiniteError as error:
            raise not_finite(error, self.data) from error
        metrics = {name: value for name, value in module.epoch_values.items() if name.startswith("test/")}
        last = load_checkpoint(self.output_dir / "checkpoints" / "last.ckpt")
        history = last["callbacks"]["Epochs"]["history"]
        row = row_of(history, checkpoint["epoch"] + 1)
        tracker = begin_tracking(
            cfg, self.output_dir, self.overrides, self.built, self.data,
            precision=str(arguments["precision"]), checkpoint=last,
        )  # fmt: skip
        tracker.tags(tags)
        write_outputs(
            tracker, self.output_dir, cfg, self.data, self.built, history=history,
            metrics={name: value for name, value in row.items() if "/" in name} | metrics,
            facts={"best_epoch": row["epoch"]}, predictions=module.predictions("test"),
        )  # fmt: skip
        tracker.close("FINISHED", cfg.tracking.close_timeout)
        return metrics

    def _stopped(self, stopped: StoppedBySignalError) -> BaseException:
        """What the run ends with after a signal; its MLflow run, where one has begun, ends as killed."""
        self._end("KILLED")
        if self.trial is not None:
            return TrialInterrupted()
        where = f"; go on with ckpt_path={stopped.checkpoint}" if stopped.checkpoint else ""
        log.warning("stopped by signal %d%s", stopped.number, where)
        return SystemExit(128 + stopped.number)

    def _end(self, status: str) -> bool:
        return self.tracker is None or self.tracker.close(status, self.cfg.tracking.close_timeout)


def test_again(cfg: TrainConfig, output_dir: Path, *, tags: dict[str, str]) -> dict[str, float]:
    """Test the best checkpoint of a finished run that had not seen its test part; its MLflow run gets the result."""
    quiet_libraries()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
        return _Run(cfg, output_dir, [], StopSignal(), None).test_again(tags)


test_again.__test__ = False  # type: ignore[attr-defined]  # a name that pytest would collect
