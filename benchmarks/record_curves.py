"""Learning curves of a whole search space, recorded once: the table that `benchmarks.search` replays sweeps against.

Run: python -m benchmarks.record_curves eyes=FOLDER weights=FILE [model=mobilenet_v2] [table=FILE.csv] [prices=true]
         [trainer=cpu] [processes=1] [price_images=2000]
Trains finetuning depth x learning rate x seeds on 2,000 real eyes at 96 pixels for 10 epochs, with `eyegender.train`'s
own code, and appends the epochs of each finished configuration to the table. The same command continues after an
interruption and repeats only the configuration that was not finished. `prices=true` records nothing, but measures the
seconds per epoch of each depth, with and without stored activations, in one sitting on a quiet machine, and writes them
into the table; until then both columns are empty. With `price_images=500` it measures with a quarter of the images and
takes the seconds times four. The accuracies may be recorded on a GPU (`trainer=gpu`) and in several processes at
once; the seconds are measured in one process on the CPU.

Columns: `depth`, `lr`, `seed`, `epoch` (from 1), `val_accuracy`, `val_accuracy_ema` (0..1), `val_loss`, `val_loss_ema`
(nats), `seconds`, `seconds_stored` (per epoch, validation included). The averaged weights (EMA) have a memory of one
epoch: decay 1 - 1 / steps per epoch. They change nothing in the training, so both come from the same run.
"""

from __future__ import annotations

import csv
import itertools
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.measuring import machine
from eyegender.core.atomic_write import atomic_write
from eyegender.core.config_files import config_folder, register_sweeps
from eyegender.core.schema import TrainConfig, parse
from eyegender.training.run import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.models.classifier import Classifier

DEPTHS: Mapping[str, tuple[int, ...]] = {
    "mobilenet_v2": (0, 1, 2, 4, 8, 12, 16, 19),
    "inception_v3": (0, 1, 2, 3, 5, 8, 11, 16),
}
RATES = (1e-4, 2.5e-4, 6.3e-4, 1.6e-3, 4e-3, 1e-2)
SEEDS = (0, 1)
EPOCHS = 10
IMAGES = 2000
COLUMNS = (
    "depth", "lr", "seed", "epoch", "val_accuracy", "val_accuracy_ema", "val_loss", "val_loss_ema", "seconds",
    "seconds_stored",
)  # fmt: skip
# 600 images to validate on: the standard error of an accuracy of 0.95 is 0.9 points.
DATA = ("data=folder", "data.subset={female: 1000, male: 1000}", "data.split.test=0.1", "data.split.val=0.3",
        "data.split.seed=0", "data.size=96")  # fmt: skip


class AveragedWeights(pl.Callback):
    """Validates a moving average of the weights after each epoch, beside the training and without changing it."""

    def __init__(self) -> None:
        self.values: list[tuple[float, float]] = []  # accuracy and loss per epoch

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        decay = 1 - 1 / len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        self.average = AveragedModel(module.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def on_train_batch_end(self, _trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.average.update_parameters(module.network)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Classifier) -> None:  # type: ignore[override]
        self.average.eval()
        hits, losses = [], []
        with torch.no_grad():
            for given in trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
                batch = trainer.strategy.batch_to_device(given)
                with trainer.precision_plugin.forward_context():
                    logits = self.average.module(batch.pixels, is_features=batch.is_features).float()
                hits.append((logits > 0) == (batch.labels > 0.5))
                losses.append(module.loss(logits, batch.labels, training=False))
        self.values.append((float(torch.cat(hits).float().mean()), float(torch.cat(losses).mean())))


def config(given: Mapping[str, str], *overrides: str) -> TrainConfig:
    lines = [
        *DATA, f"data.root={given['eyes']}", f"model={given['model']}", f"model.weights={given['weights']}",
        "run_test=false", "trainer.compile=false", f"trainer={given['trainer']}", "trainer.progress=none", *overrides,
    ]  # fmt: skip
    register_sweeps()
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return parse(compose("train", overrides=lines))


def record(given: Mapping[str, str], depth: int, rate: float, seed: int) -> list[dict[str, object]]:
    """One row per epoch of one configuration."""
    averaged = AveragedWeights()
    with tempfile.TemporaryDirectory() as folder:
        mode = "off" if depth == DEPTHS[given["model"]][-1] else "on"
        result = train(
            config(
                given, f"model.finetune_depth={depth}", f"model.lr={rate}", f"seed={seed}", f"features={mode}",
                f"trainer.max_epochs={EPOCHS}", f"tracking.root={folder}/mlruns",
            ), Path(folder) / "run", callbacks=[averaged],
        )  # fmt: skip
    return [
        {
            "depth": depth, "lr": rate, "seed": seed, "epoch": int(row["epoch"]),
            "val_accuracy": f"{row['val/accuracy']:.5f}", "val_accuracy_ema": f"{accuracy:.5f}",
            "val_loss": f"{row['val/loss']:.5f}", "val_loss_ema": f"{loss:.5f}", "seconds": "", "seconds_stored": "",
        }
        for row, (accuracy, loss) in zip(result.history, averaged.values, strict=True)
    ]  # fmt: skip


def price(given: Mapping[str, str], depth: int, mode: str, epochs: int = 3) -> float:
    """Mean seconds per epoch, without the first, which also stores activations and warms up."""
    images = int(given["price_images"])
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            config(
                given | {"trainer": "cpu"}, f"model.finetune_depth={depth}", f"features={mode}",
                f"data.subset={{female: {images // 2}, male: {images // 2}}}", f"trainer.max_epochs={epochs}",
                f"tracking.root={folder}/mlruns",
            ), Path(folder) / "run",
        )  # fmt: skip
    return mean(row["epoch_seconds"] for row in result.history[1:]) * IMAGES / images


def with_prices(recorded: list[dict[str, object]], rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The recorded rows with the seconds that the table already holds for their depth."""
    known = {int(str(row["depth"])): {name: row[name] for name in ("seconds", "seconds_stored")} for row in rows}
    return [row | known.get(int(str(row["depth"])), {}) for row in recorded]


def read(table: Path) -> list[dict[str, object]]:
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write(table: Path, rows: list[dict[str, object]]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(table) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parsed(arguments: list[str]) -> dict[str, str]:
    defaults = {"model": "mobilenet_v2", "prices": "false", "trainer": "cpu", "processes": "1", "price_images": "2000"}
    given = defaults | dict(part.partition("=")[::2] for part in arguments)
    missing = {"eyes", "weights"} - given.keys()
    unknown = given.keys() - {"eyes", "weights", "table", *defaults}
    if "--help" in arguments:
        print(__doc__)
        raise SystemExit(0)
    if missing or unknown or given["model"] not in DEPTHS:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    given.setdefault("table", str(Path(__file__).parent / "curves" / f"{given['model']}.csv"))
    return given


def main() -> None:
    given = parsed(sys.argv[1:])
    table = Path(given["table"])
    rows = read(table)
    finished = {(int(str(r["depth"])), float(str(r["lr"])), int(str(r["seed"]))) for r in rows}
    # Seeds last: an interrupted recording holds whole grids.
    cells = [
        (depth, rate, seed)
        for seed, rate, depth in itertools.product(SEEDS, RATES, DEPTHS[given["model"]])
        if (depth, rate, seed) not in finished and given["prices"] != "true"
    ]
    with ProcessPoolExecutor(int(given["processes"]), mp_context=get_context("spawn")) as pool:
        for recorded in as_completed([pool.submit(record, given, *cell) for cell in cells]):
            rows += with_prices(recorded.result(), rows)
            rows.sort(key=lambda row: [float(str(row[name])) for name in ("seed", "lr", "depth", "epoch")])
            write(table, rows)
            last = recorded.result()[-1]
            print(
                f"depth {last['depth']} lr {last['lr']} seed {last['seed']}: {last['val_accuracy']}, "
                f"{last['val_accuracy_ema']}", flush=True,
            )  # fmt: skip
    if given["prices"] == "true":
        depths = DEPTHS[given["model"]]
        plain = {depth: price(given, depth, "off") for depth in depths}
        stored = {depth: price(given, depth, "on") if depth < depths[-1] else plain[depth] for depth in depths}
        for row in rows:
            depth = int(str(row["depth"]))
            row["seconds"], row["seconds_stored"] = f"{plain[depth]:.3f}", f"{stored[depth]:.3f}"
        write(table, rows)
        for depth in depths:
            print(f"depth {depth}: {plain[depth]:.2f} s per epoch, {stored[depth]:.2f} s with stored activations")
    values = np.array([float(str(row["val_accuracy"])) for row in rows])
    print(f"{len(rows)} rows in {table}, best validation accuracy {values.max():.4f}; {machine()}")


if __name__ == "__main__":
    main()
