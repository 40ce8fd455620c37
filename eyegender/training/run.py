"""One training run from a checked config to a finished MLflow run, told as a story."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar

from eyegender.command import quiet_libraries
from eyegender.errors import UserError
from eyegender.models.classifier import Classifier, NotFiniteError
from eyegender.training.best_checkpoint import BestCheckpoint
from eyegender.training.build import BuiltModel, build_data, build_model, trainer_arguments
from eyegender.training.checkpoint_io import SafeCheckpointIO, load_checkpoint
from eyegender.training.epochs import Epochs, History, best_row
from eyegender.training.outputs import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    draw_figures,
    save_for_logging,
    write_json,
    write_predictions,
)
from eyegender.training.run_tracking import begin_tracking, run_identity
from eyegender.training.stop_signal import StoppedBySignalError, StopOnSignal, StopSignal
from eyegender.training.summary import print_summary, wants_bars

if TYPE_CHECKING:
    from eyegender.data.data_module import EyesDataModule
    from eyegender.schema import TrainConfig
    from eyegender.tracking.tracker import Tracker

log = logging.getLogger("eyegender")


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Args:
        score: best value of the monitored validation metric.
        metrics: the best epoch's train/ and val/ metrics, and test/ where the test part was touched.
        history: one row of metrics per epoch.
        output_dir: holds metrics.json and checkpoints/.
        run_id: in MLflow, None while its store is away.
        module: with the best checkpoint's weights.
        trainer: Lightning's.
    """

    score: float
    metrics: dict[str, float]
    history: History
    output_dir: Path
    run_id: str | None
    module: Classifier
    trainer: pl.Trainer


def train(cfg: TrainConfig, output_dir: Path, overrides: list[str] | None = None) -> RunResult:
    """Train, choose the best checkpoint by validation, test it, and leave a complete MLflow run.

    Raises:
        UserError: whatever the user can repair.
        SystemExit: 128 + signal number, after SIGTERM or Ctrl-C; `last.ckpt` is where to go on.
    """
    quiet_libraries()
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    output_dir.mkdir(parents=True, exist_ok=True)
    with StopSignal().caught() as stop, warnings.catch_warnings():
        # Lightning's hints at more worker processes and bigger logging intervals do not apply to whole-batch loaders.
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
        return _train(cfg, output_dir, overrides or [], stop)


def _train(cfg: TrainConfig, output_dir: Path, overrides: list[str], stop: StopSignal) -> RunResult:
    began = time.monotonic()
    pl.seed_everything(cfg.seed, verbose=False)
    arguments = trainer_arguments(cfg)
    checkpoint = load_checkpoint(Path(cfg.ckpt_path)) if cfg.ckpt_path else None

    # --- data -----------------------------------------------------------------------------------------------------
    data = build_data(cfg)
    data.setup("fit")
    stop.check()

    # --- model ----------------------------------------------------------------------------------------------------
    female, male = np.bincount(data.samples.labels[data.split.train], minlength=2)
    pl.seed_everything(cfg.seed, verbose=False)  # so that first weights do not depend on what the data drew
    built = build_model(cfg, classes=data.samples.classes, balance=float(female / max(male, 1)), fresh=checkpoint is None)
    module = built.classifier
    if checkpoint is not None:
        _check_fits(checkpoint, module, cfg)
    if cfg.trainer.channels_last in {True, "auto"}:
        module.network.use_channels_last()

    # --- trainer --------------------------------------------------------------------------------------------------
    epochs = Epochs(None)
    folder = output_dir / "checkpoints"
    trainer = pl.Trainer(
        **arguments,
        logger=False,
        callbacks=[
            epochs,
            *_checkpoints(folder, cfg),
            StopOnSignal(stop, folder / "last.ckpt"),
            *([RichProgressBar(leave=False)] if wants_bars(cfg.trainer.progress) else []),
        ],
        plugins=[SafeCheckpointIO()],
        default_root_dir=output_dir,
        enable_progress_bar=wants_bars(cfg.trainer.progress),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )

    # --- tracking -------------------------------------------------------------------------------------------------
    tracker = None
    if trainer.is_global_zero:
        tracker = begin_tracking(cfg, output_dir, overrides, built, data, str(arguments["precision"]), checkpoint)
        epochs.tracker = tracker
        module.run_identity = run_identity(tracker)
    try:
        result = _fit_and_test(cfg, output_dir, trainer, module, data, epochs, built, tracker, began)
    except StoppedBySignalError as stopped:
        _end(tracker, cfg, "KILLED")
        where = f"; go on with ckpt_path={stopped.checkpoint}" if stopped.checkpoint else ""
        log.warning("stopped by signal %d%s", stopped.number, where)
        raise SystemExit(128 + stopped.number) from None
    except NotFiniteError as error:
        _end(tracker, cfg, "FAILED")
        names = [data.samples.names[i] for i in error.index]
        raise UserError(
            f"{error.what} is not finite at step {error.step} with learning rate {error.lr:.3g}; lower model.lr, or "
            f"look at the pictures of that batch: {', '.join(names[:4])}, …"
        ) from error
    except BaseException:
        _end(tracker, cfg, "KILLED" if stop.number else "FAILED")
        raise
    complete = _end(tracker, cfg, "FINISHED")
    if tracker is not None:
        print_summary(cfg, result.metrics, output_dir, tracker, data.source, complete=complete)
    return result


def _fit_and_test(
    cfg: TrainConfig,
    output_dir: Path,
    trainer: pl.Trainer,
    module: Classifier,
    data: EyesDataModule,
    epochs: Epochs,
    built: BuiltModel,
    tracker: Tracker | None,
    began: float,
) -> RunResult:
    trainer.fit(module, datamodule=data, ckpt_path=cfg.ckpt_path)
    fitted = time.monotonic() - began

    # The best checkpoint is what gets tested and logged.
    best = load_checkpoint(_best_path(trainer))
    module.load_state_dict(best["state_dict"])
    row = best_row(epochs.history, cfg.monitor, cfg.mode)
    metrics = {name: value for name, value in row.items() if "/" in name}
    predictions = None
    if cfg.run_test:
        trainer.test(module, datamodule=data, verbose=False)
        predictions = module.predictions("test")
        metrics |= {name: value for name, value in module.epoch_values.items() if name.startswith("test/")}
    if tracker is not None:
        _leave_outputs(cfg, output_dir, module, data, epochs.history, built, tracker, metrics, predictions, row, fitted)
    return RunResult(
        row[cfg.monitor], metrics, epochs.history, output_dir, tracker and tracker.run_id, module, trainer
    )


def _leave_outputs(
    cfg: TrainConfig,
    output_dir: Path,
    module: Classifier,
    data: EyesDataModule,
    history: History,
    built: BuiltModel,
    tracker: Tracker,
    metrics: dict[str, float],
    predictions: dict[str, torch.Tensor] | None,
    best: dict[str, float],
    fitted: float,
) -> None:
    final = {name: value for name, value in metrics.items() if name.startswith("test/")}
    final |= {f"best/{name}": value for name, value in metrics.items() if name.startswith("val/")}
    facts = {"best_epoch": best["epoch"], "fit_seconds": fitted}
    tracker.metrics(final | facts, step=len(history))
    write_json(
        output_dir / METRICS_FILE,
        {
            "metrics": {name: value for name, value in metrics.items() if value == value},  # noqa: PLR0124 - NaN
            **facts,
            "epochs": len(history),
            "model": cfg.model.name,
            "finetune_depth": built.card.depth,
            "size": built.card.size,
            "weights": {"kind": built.weights.kind, "sha256": built.weights.sha256},
            "seed": cfg.seed,
            "data": data.facts(),
            "run_key": tracker.key,
        },
    )
    tracker.artifact(METRICS_FILE)
    if predictions is not None:
        write_predictions(output_dir / PREDICTIONS_FILE, data, predictions)
        tracker.artifact(PREDICTIONS_FILE)
        # MLflow lists tables by this tag.
        tracker.tags({"mlflow.loggedArtifacts": f'[{{"path": "{PREDICTIONS_FILE}", "type": "table"}}]'})
    note = "synthetic eyes" if data.source == "synthetic" else None
    for path in draw_figures(output_dir / "figures", history, data, predictions, note):
        tracker.artifact(str(path.relative_to(output_dir)), "figures")
    example = data.pixels(data.split.val[:1])
    save_for_logging(output_dir / "model", module.network, built.card, example.transpose(0, 2, 3, 1))
    tracker.model(
        "model",
        metadata={
            "input": "pictures of any size and number: uint8 0..255 or float 0..1, (N, H, W[, 1 or 3]), or picture files",
            "output": f"probability of {built.card.classes[1]}",
            "classes": list(built.card.classes),
            "size": built.card.size,
            "color": built.card.color,
            "data": data.source,
        },
        params={"model": cfg.model.name, "finetune_depth": str(built.card.depth)},
    )


def _checkpoints(folder: Path, cfg: TrainConfig) -> list[ModelCheckpoint]:
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    return [
        BestCheckpoint(filename="best", monitor=cfg.monitor, mode=cfg.mode, save_top_k=1, **common),
        ModelCheckpoint(filename="last", monitor=None, save_top_k=1, **common),
    ]


def _best_path(trainer: pl.Trainer) -> Path:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint):
            return Path(callback.best_model_path)
    raise RuntimeError("the trainer has no callback that keeps the best checkpoint")


def _check_fits(checkpoint: dict[str, Any], module: Classifier, cfg: TrainConfig) -> None:
    """Before Lightning loads it: name the first layer that does not fit, rather than all of them."""
    mine, theirs = module.state_dict(), checkpoint["state_dict"]
    for name in [*mine, *theirs]:
        if name not in theirs or name not in mine or mine[name].shape != theirs[name].shape:
            raise UserError(
                f"checkpoint {cfg.ckpt_path} belongs to another model: layer {name} is "
                f"{_shape(theirs, name)} there and {_shape(mine, name)} in {cfg.model.name} with head {cfg.model.head}; "
                "use the model options of the run that it comes from"
            )
    kept = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    wanted = [len(group["params"]) for group in module.parameter_groups()]
    if kept != wanted:
        raise UserError(
            f"checkpoint {cfg.ckpt_path} was trained at another depth ({sum(kept)} trainable tensors, not {sum(wanted)}); "
            "set model.finetune_depth to that of its run"
        )


def _shape(state: dict[str, torch.Tensor], name: str) -> str:
    return "x".join(map(str, state[name].shape)) if name in state else "missing"


def _end(tracker: Tracker | None, cfg: TrainConfig, status: str) -> bool:
    return tracker is None or tracker.close(status, cfg.tracking.close_timeout)
