"""One training run, from a checked config to a finished MLflow run."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eyegender.core.command import quiet_libraries
from eyegender.core.command_line.live_bar import display_as
from eyegender.core.errors import UserError, translate_disk_errors
from eyegender.core.processes import is_requeued
from eyegender.core.progress import stoppable
from eyegender.features.plan import expected_reuse, stored_activations
from eyegender.features.sweep_plan import kept_cuts
from eyegender.models.classifier import VAL_PREDICTIONS
from eyegender.models.finite_check import NotFiniteError
from eyegender.tracking.check import check_store, check_store_once
from eyegender.tracking.location import find_location
from eyegender.training.autotune import autotune, frozen_stages_dtype, tune_malloc
from eyegender.training.averaging import averaging_decay
from eyegender.training.build import (
    build_data,
    build_trainer,
    check_batches,
    check_trainer,
    prepare_model,
    prepare_network,
    trainer_settings,
)
from eyegender.training.callbacks import EpochHistory, SaveOrigin, fit_callbacks, row_of_epoch, stored_history
from eyegender.training.checkpoints import SafeCheckpointIO, latest_checkpoint, load_checkpoint
from eyegender.training.classes import named_class_metrics, with_classes
from eyegender.training.display.epoch_bar import EpochBar
from eyegender.training.display.first_lines import first_lines
from eyegender.training.environment import gpu_usage
from eyegender.training.interruptions import RunLock, StoppedBySignalError, StopSignal, not_finite_error
from eyegender.training.output_of_runs import remove_result
from eyegender.training.outputs import collect_predictions, objective_error, write_outputs
from eyegender.training.plain_epochs import PlainEpochs, can_train_plainly
from eyegender.training.resume import ResumePoint, find_resume_point, restore_weights
from eyegender.training.summary import RunResult, headline, print_summary
from eyegender.training.tracking import begin_tracking, checkpoint_origin, finish_on_error, link_run
from hydra_plugins.optuna_study import TrialHandle, TrialInterrupted, current_trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytorch_lightning as pl

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.classifier import Classifier
    from eyegender.tracking.tracker import Tracker
    from eyegender.training.build import BuiltModel, TrainerSettings
    from eyegender.training.callbacks import History

log = logging.getLogger("eyegender")


@dataclass(frozen=True)
class _Request:
    """What a run was asked to do, from where it resumes, and who may stop it."""

    cfg: TrainConfig
    output_dir: Path
    overrides: list[str]
    resume: ResumePoint | None
    trial: TrialHandle | None
    stop: StopSignal
    callbacks: Sequence[pl.Callback]


def train(
    cfg: TrainConfig,
    output_dir: Path,
    overrides: list[str] | None = None,
    *,
    callbacks: Sequence[pl.Callback] = (),
) -> RunResult:
    """Train a network, choose the best checkpoint by validation, test it, and record everything in an MLflow run.

    A trial of a sweep reports its metrics to the study, resumes from its last checkpoint, and leaves signals to the
    sweep's worker. A job that Slurm has restarted resumes from the last checkpoint in its folder. With `cfg.overwrite`,
    the result of a finished run is removed from the folder first, unless this run goes on there.

    Args:
        cfg: config of the run.
        output_dir: output folder; it is created.
        overrides: overrides on the command line, for the name and the tags of the run.
        callbacks: further Lightning callbacks; they are called before the ones of the run.

    Raises:
        UserError: the user can repair what is wrong; the message says how.
        SystemExit: 128 + signal number, after SIGTERM or Ctrl-C; `last.ckpt` is where the run can resume.
        TrialPruned, TrialInterrupted, TrialLost: in a trial of a sweep.
    """
    quiet_libraries()
    tune_malloc()
    cfg = with_classes(cfg)
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    output_dir.mkdir(parents=True, exist_ok=True)
    trial = current_trial()
    if trial is not None:
        trial.defer_interrupt()
    if cfg.ckpt_path is None and (trial is not None or is_requeued()):
        checkpoint = latest_checkpoint(output_dir)
        cfg = cfg.model_copy(update={"ckpt_path": None if checkpoint is None else str(checkpoint)})
    # A trial writes to its own log only; the sweep's command shows its progress.
    shown = display_as(cfg.trainer.progress if trial is None else "lines")
    with StopSignal(trial).caught() as stop, _quiet_lightning(), RunLock(refuse=trial is None) as lock, shown:
        try:
            lock.take(output_dir)
            if cfg.overwrite and trial is None:
                remove_result(output_dir, ckpt_path=cfg.ckpt_path)
            resume = find_resume_point(cfg, lock)
            if resume is not None:
                cfg = cfg.model_copy(update={"ckpt_path": str(resume.path)})
            return _train(_Request(cfg, output_dir, overrides or [], resume, trial, stop, callbacks))
        except StoppedBySignalError as stopped:
            if trial is not None:
                raise TrialInterrupted from None
            resume_with = f"; resume with ckpt_path={stopped.checkpoint}" if stopped.checkpoint else ""
            log.warning("stopped by signal %d%s", stopped.number, resume_with)
            raise SystemExit(128 + stopped.number) from None
        finally:
            # The next trial of the worker starts its own ranks; those of this trial end with it.
            if trial is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def _train(request: _Request) -> RunResult:
    cfg = request.cfg
    start = time.monotonic()
    # 1. Mistakes show before any data is read: the tracking store, the device, the network.
    check = check_store if request.trial is None else check_store_once
    check(location := find_location(cfg.tracking.uri, cfg.tracking.root))
    settings = trainer_settings(cfg)
    ranks = check_trainer(settings)
    network = prepare_network(cfg, fresh=request.resume is None)
    # 2. Read and split the data; the classifier needs the names and the balance of the classes.
    data = _read_data(cfg, request.stop)
    built = prepare_model(cfg, data, network)
    if request.resume is not None:
        restore_weights(request.resume, built.classifier, data, cfg)
    if ranks.is_zero:
        for line in first_lines(cfg, built, data, request.output_dir, location=location, resume=request.resume):
            log.info("%s", line)
    # 3. Choose what the config leaves to a measurement.
    settings = autotune(cfg, settings, network.network, len(data.split.train), data.size)
    check_batches(cfg, data, network.network, ranks)
    # 4. Begin the MLflow run, or resume it. Whatever happens from here on, it gets a status.
    tracker = None
    if ranks.is_zero:
        tracker = begin_tracking(
            cfg, request.output_dir, request.overrides, built, data, precision=settings.precision,
            resume=request.resume, trial=request.trial,
        )  # fmt: skip
        tracker.measure_system(cfg.tracking.system_interval, gpu_usage)
    with finish_on_error(tracker, cfg, built.classifier, data, request.stop, trial=request.trial):
        # 5. Train, test the best checkpoint, write the outputs.
        fit = _fit(request, built, data, settings, tracker)
        fit_seconds = time.monotonic() - start
        result = _test_and_write(request, built, data, fit, tracker, fit_seconds=fit_seconds)
    # 6. Finish the MLflow run, and say where everything is.
    if tracker is None:
        return result
    complete = tracker.close("FINISHED", cfg.tracking.close_timeout)
    link_run(tracker, request.trial)
    if request.trial is None:
        classes = data.samples.classes
        print_summary(
            cfg, result.metrics, request.output_dir, tracker, source=data.source,
            positive=classes[1] if len(classes) == 2 else None, complete=complete,
            headline=headline(cfg, result, time.monotonic() - start),
        )  # fmt: skip
        if not complete and (disk_full := tracker.disk_full_error()):
            raise disk_full
    return replace(result, run_id=tracker.run_id)  # the store may not have been reached earlier


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's advice on worker processes and logging intervals, which does not apply to our loaders."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
        yield


def _read_data(cfg: TrainConfig, stop: StopSignal) -> EyesDataModule:
    data = build_data(cfg)
    with stoppable(stop.check):
        data.setup("fit")
    stop.check()
    return data


@dataclass(frozen=True)
class _Fit:
    """A finished fit: trainer, the metrics of each epoch, the path of the best checkpoint, and the trainer's bar."""

    trainer: pl.Trainer
    history: History
    best: Path
    bar: EpochBar


def _fit(
    request: _Request, built: BuiltModel, data: EyesDataModule, settings: TrainerSettings, tracker: Tracker | None
) -> _Fit:
    """Train, from stored activations if that saves time."""
    cfg, resume = request.cfg, request.resume
    history = EpochHistory(tracker, cfg.trainer.max_steps)
    decay = averaging_decay(cfg.model.ema, len(data.split.train), cfg.trainer.batch_size)
    callbacks, best = fit_callbacks(
        request.output_dir / "checkpoints", history, request.stop, monitor=cfg.monitor, mode=cfg.mode,
        ema=decay, trial=request.trial, resumed=None if resume is None else resume.path,
    )  # fmt: skip
    if tracker is not None:
        callbacks.append(SaveOrigin(partial(checkpoint_origin, tracker, cfg, data)))
    callbacks.append(bar := EpochBar())
    if resume is not None and 0 < cfg.trainer.max_steps <= resume.progress.steps:
        settings = replace(settings, max_epochs=resume.progress.epochs)  # no step is left
    # Of a sweep's many trials; the checkpoints of a single run can be moved as they are.
    frozen = () if request.trial is None else built.classifier.frozen_names()
    trainer = build_trainer(
        settings, callbacks=[*request.callbacks, *callbacks], plugins=[SafeCheckpointIO(frozen)],
        default_root_dir=request.output_dir, enable_progress_bar=False, num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )  # fmt: skip
    if not trainer.is_global_zero:
        log.setLevel(logging.WARNING)  # rank zero logs for all ranks
    device = trainer.strategy.root_device
    data.batch_source = stored_activations(
        cfg,
        built.classifier,
        data,
        device,
        compute_dtype=partial(frozen_stages_dtype, cfg, built.classifier.network, data.size, device),
        check=request.stop.check,
        reuse=expected_reuse(request.trial),
        kept=None if request.trial is None else kept_cuts(request.trial.study_attrs, cfg),
    )
    if data.batch_source is not None and not request.callbacks and can_train_plainly(cfg, trainer, settings.precision):
        PlainEpochs(trainer, built.classifier)
    with bar.shown("training") if trainer.is_global_zero else nullcontext():
        trainer.fit(built.classifier, datamodule=data, ckpt_path=cfg.ckpt_path)
    history.send()
    if not best.best_model_path:
        raise UserError(
            f"the best.ckpt of ckpt_path={cfg.ckpt_path} is missing, and no epoch is left to train; put it back, or "
            f"set trainer.max_epochs={cfg.trainer.max_epochs + 1} or more"
        )
    return _Fit(trainer, history.rows, Path(best.best_model_path), bar)


def _test_and_write(
    request: _Request,
    built: BuiltModel,
    data: EyesDataModule,
    fit: _Fit,
    tracker: Tracker | None,
    *,
    fit_seconds: float,
) -> RunResult:
    """Test the best checkpoint, unless the config says no, and write the output files."""
    cfg, module = request.cfg, built.classifier
    best = load_checkpoint(fit.best)
    module.load_state_dict(best["state_dict"])
    row = row_of_epoch(fit.history, best["epoch"] + 1)
    metrics = {name: value for name, value in row.items() if "/" in name}
    if cfg.run_test:
        with fit.bar.shown("testing") if fit.trainer.is_global_zero else nullcontext():
            fit.trainer.test(module, datamodule=data, verbose=False)
        metrics |= _test_metrics(module, data)
    if tracker is not None:
        size = sum(tensor.nbytes for tensor in module.state_dict().values())
        with translate_disk_errors("weights, metrics and figures", request.output_dir, size, ", then run again"):
            write_outputs(
                tracker, request.output_dir, cfg, data, built, history=fit.history, metrics=metrics,
                facts={"best_epoch": row["epoch"], "fit_seconds": fit_seconds},
                test_outputs=module.predictions("test") if cfg.run_test else None,
                val_outputs=best.get(VAL_PREDICTIONS),
                # Of a sweep's many trials, hardly any is ever looked at: its checkpoint is enough to catch up on both.
                with_model=cfg.run_test or request.trial is None,
            )  # fmt: skip
    if request.trial is not None and VAL_PREDICTIONS in best and len(cfg.objectives or ()) < 2:
        error = objective_error(cfg, data, best[VAL_PREDICTIONS])
        if error is not None:
            request.trial.set_standard_error(error)
    run_id = None if tracker is None else tracker.run_id
    return RunResult(
        row[cfg.monitor], metrics, fit.history, request.output_dir, run_id, built.spec, module, fit.trainer
    )


def _test_metrics(module: Classifier, data: EyesDataModule) -> dict[str, float]:
    found = {name: value for name, value in module.epoch_values.items() if name.startswith("test/")}
    if len(data.samples.classes) == 2:
        return found
    return {**found, **named_class_metrics(collect_predictions(data, module.predictions("test")))}


def evaluate_best(cfg: TrainConfig, output_dir: Path, *, tags: dict[str, str]) -> dict[str, float]:
    """Test the best checkpoint of a finished run that was not tested, and add the result to its MLflow run.

    Args:
        cfg: config of the run.
        output_dir: output folder of the run.
        tags: tags to set on the MLflow run.

    Returns:
        The test/ metrics.
    """
    quiet_libraries()
    with _quiet_lightning():
        best_path, last_path = (output_dir / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
        best, last = load_checkpoint(best_path), ResumePoint(last_path, load_checkpoint(last_path))
        network = prepare_network(cfg, fresh=False)
        data = _read_data(cfg, StopSignal())
        built = prepare_model(cfg, data, network)
        restore_weights(ResumePoint(best_path, best), built.classifier, data, cfg)
        settings = replace(trainer_settings(cfg), devices=1, strategy="auto", num_nodes=1)
        trainer = build_trainer(settings, enable_checkpointing=False, enable_progress_bar=False)
        try:
            trainer.test(built.classifier, datamodule=data, verbose=False)
        except NotFiniteError as error:
            raise not_finite_error(error, data) from error
        history = stored_history(last.checkpoint)
        row = row_of_epoch(history, best["epoch"] + 1)
        metrics = _test_metrics(built.classifier, data)
        tracker = begin_tracking(cfg, output_dir, [], built, data, precision=settings.precision, resume=last)
        tracker.set_tags(tags)
        write_outputs(
            tracker, output_dir, cfg, data, built, history=history, facts={"best_epoch": row["epoch"]},
            metrics={name: value for name, value in row.items() if "/" in name} | metrics,
            test_outputs=built.classifier.predictions("test"), val_outputs=best.get(VAL_PREDICTIONS),
        )  # fmt: skip
        tracker.close("FINISHED", cfg.tracking.close_timeout)
        SafeCheckpointIO().save_checkpoint(best, best_path)  # with its frozen weights, since it is worth keeping
        return metrics
