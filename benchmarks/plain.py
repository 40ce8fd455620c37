"""The baseline: torchvision, ImageFolder, a DataLoader with workers, and Lightning, in float32.

The frozen stages run for every image in every epoch. Several trials run one after another in one process.

Run: python -m benchmarks.plain FOLDER --weights FILE --trials '[[0, 0.001]]' --epochs 30   (prints one JSON line)
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder


class Plain(pl.LightningModule):
    def __init__(self, depth: int, lr: float, weights: str | None) -> None:
        super().__init__()
        network = torchvision.models.mobilenet_v2()
        if weights:
            network.load_state_dict(torch.load(weights, weights_only=True))
        self.depth, self.lr = depth, lr
        cut = len(network.features) - depth
        self.frozen = network.features[:cut].requires_grad_(requires_grad=False)
        self.rest = network.features[cut:]
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1))
        self.epoch_ends = [time.perf_counter()]
        self.accuracy: list[float] = []
        self.right: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.frozen.eval()
        with torch.no_grad():
            x = self.frozen(x)
        return self.head(self.rest(x)).squeeze(1)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        pixels, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self(pixels), labels.float())

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        pixels, labels = batch
        self.right.append((self(pixels) > 0) == (labels > 0))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.accuracy.append(float(torch.cat(self.right).float().mean()))
        self.right = []
        self.epoch_ends.append(time.perf_counter())

    def configure_optimizers(self) -> dict:
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def loaders(root: Path, size: int, batch: int, workers: int) -> list[DataLoader]:
    common = [
        transforms.Grayscale(3),
        transforms.Resize((size, size)),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    part_of = {row["path"]: row["split"] for row in csv.DictReader((root / "split.csv").open())}
    made = []
    for part in ("train", "val", "test"):
        changes = [transforms.RandomHorizontalFlip()] if part == "train" else []
        folder = ImageFolder(root / "images", transforms.Compose([*changes, *common]))
        chosen = [
            i for i, (path, _) in enumerate(folder.samples)
            if part_of[str(Path(path).relative_to(root / "images"))] == part
        ]  # fmt: skip
        subset = Subset(folder, chosen)
        made.append(
            DataLoader(subset, batch, shuffle=part == "train", num_workers=workers, persistent_workers=workers > 0)
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--trials", type=json.loads, default=[[0, 1e-3]])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-test", dest="test", action="store_false")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    for depth, lr in options.trials:
        pl.seed_everything(0, verbose=False)
        train, val, test = loaders(options.root, options.size, 64, options.workers)
        model = Plain(depth, lr, options.weights)
        trainer = pl.Trainer(
            max_epochs=options.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(model, train, val)
        took = [b - a for a, b in zip(model.epoch_ends, model.epoch_ends[1:], strict=False)]
        began = time.perf_counter()
        if options.test:
            model.right = []
            trainer.test(model, test, verbose=False)
        results.append(
            {
                "depth": depth,
                "lr": lr,
                "epochs": took,
                "accuracy": max(model.accuracy),
                "test": time.perf_counter() - began,
            }
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
