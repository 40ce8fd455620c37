"""Epoch time of a tracked Lightning run against a bare PyTorch loop on the same tensors.

Run: python -m benchmarks.overhead [--size 96] [--depth all] [--write]
Both train the same network with AdamW, gradient clipping and the one-cycle schedule in float32, on batches of 64
synthetic eyes. The run augments images that it reads from the store; the bare loop has them, augmented, in memory. The
result is seconds per epoch without the first one; the epochs of the run include its metrics, but neither validation nor
checkpoints.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch import nn

from benchmarks.measuring import alternate, ratios, report, spread, table
from eyegender.core.schema import TrainConfig, parse
from eyegender.tracking.location import find_location
from eyegender.tracking.tracker import Tracker
from eyegender.training.build import build_data, build_model

if TYPE_CHECKING:
    from eyegender.models.augment import Augment


def config(options: argparse.Namespace) -> TrainConfig:
    from hydra import compose, initialize_config_dir

    from eyegender.core.config_files import config_folder

    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return parse(
            compose(
                "train",
                [
                    f"data.n={options.images}", f"data.size={options.size}", "model.weights=null", "trainer=cpu",
                    "trainer.precision=32-true", f"trainer.max_epochs={options.epochs}",
                    f"model.finetune_depth={options.depth}",
                ],
            )
        )  # fmt: skip


class EpochTimes(pl.Callback):
    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.took, self.began = tracker, [], 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, _: object, outputs: dict, *__: object) -> None:
        self.tracker.log_metrics({"step_loss": float(outputs["loss"])}, step=trainer.global_step)

    def on_train_epoch_end(self, *_: object) -> None:
        self.took.append(time.perf_counter() - self.began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--depth", default="all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cfg = config(options)

    def prepared() -> tuple:
        pl.seed_everything(0, verbose=False)
        data = build_data(cfg)
        data.setup("fit")
        module = build_model(cfg, classes=data.samples.classes, weights=1.0).classifier
        module.network.use_channels_last()
        return data, module

    def lightning() -> float:
        data, module = prepared()
        with tempfile.TemporaryDirectory() as folder:
            tracker = Tracker(
                find_location(None, f"{folder}/mlruns"), Path(folder), experiment="overhead", name="overhead", tags={}
            )
            times = EpochTimes(tracker)
            trainer = pl.Trainer(
                max_epochs=options.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
                gradient_clip_val=1.0, callbacks=[times],
            )  # fmt: skip
            trainer.fit(module, datamodule=data)
            tracker.close("FINISHED", 60)
        return statistics.median(times.took[1:])

    def bare() -> float:
        data, module = prepared()
        network = module.network.train()
        augment: Augment = module.augment
        batches = [
            (augment(batch.pixels, torch.default_generator), batch.labels.float()) for batch in data.train_dataloader()
        ]
        optimizer = torch.optim.AdamW(module.parameter_groups(), weight_decay=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=options.epochs * len(batches) + 1)
        took = []
        for _ in range(options.epochs):
            began = time.perf_counter()
            for pixels, labels in batches:
                optimizer.zero_grad()
                loss = nn.functional.binary_cross_entropy_with_logits(network(pixels), labels)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
            took.append(time.perf_counter() - began)
        return statistics.median(took[1:])

    taken = alternate({"bare loop": bare, "tracked run": lightning}, options.rounds)
    rows = [("way", "seconds per epoch", "this / bare loop")]
    rows += [(way, spread(values), spread(ratios(values, taken["bare loop"]), 3)) for way, values in taken.items()]
    head = f"{options.images} synthetic images at {options.size} pixels, trained stages: {options.depth}."
    report("overhead", f"{head}\n\n{table(rows)}", write=options.write)


if __name__ == "__main__":
    main()
