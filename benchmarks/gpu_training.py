"""Full fine-tuning on a GPU: a tracked run, a bare loop and the plain stack; precisions; compiled steps."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.gpu_sizes import config, cores, device, fresh_memory, peak_gib, rate, synchronized
from eyegender.training.autotune import LIGHTNING, fastest_training
from eyegender.training.build import backbone_class, build_model, trainer_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.gpu_sizes import Case, Sizes
    from eyegender.models.classifier import Classifier

AIM = 0.95
TRACKED = "tracked.json"  # precision and images per second of the tracked runs
DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EnoughError(Exception):
    """The callback has measured what it wanted; the rest of the run would only take time."""


@dataclass
class Window(pl.Callback):
    """Times the later steps of each epoch, and ends the run after `epochs`.

    Args:
        skip: steps at the start of each epoch that do not count.
        epochs: number of epochs.
    """

    skip: int
    epochs: int
    rates: list[float] = field(default_factory=list)  # images per second, by epoch
    starts: list[float] = field(default_factory=list)  # of epochs
    first_step: float = 0.0
    chosen: tuple[str, bool] = ("32-true", False)  # precision, and whether the weights are channels last
    images: int = 0  # in the latest epoch
    _counted: int = 0
    _began: float = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        memory_format = getattr(module.network, "memory_format", torch.contiguous_format)
        self.chosen = str(trainer.precision), memory_format == torch.channels_last

    def on_train_epoch_start(self, *_: object) -> None:
        self.starts.append(synchronized())
        if len(self.starts) > self.epochs:
            raise EnoughError

    def on_train_batch_end(self, trainer: pl.Trainer, _: object, __: object, batch: Any, batch_idx: int) -> None:
        number, last = batch_idx + 1, int(trainer.num_training_batches)
        if len(self.starts) == 1 and number == 1:
            self.first_step = synchronized() - self.starts[0]
        skip = max(1, min(self.skip, last // 2))
        self.images = len(batch[1]) + (0 if number == 1 else self.images)
        if number > skip:
            self._counted += len(batch[1])
        if number == last:
            self.rates.append(self._counted / (synchronized() - self._began))
        elif number == skip:
            self._counted, self._began = 0, synchronized()


def tracked(case: Case, batch: int, folder: Path, window: pl.Callback, *more: str) -> None:
    """A run of `eyegender.train` with MLflow, until the callback has measured enough."""
    from eyegender.training.run import train

    cfg = config(case, folder, f"trainer.batch_size={batch}", "trainer.max_epochs=8", *more)
    output = folder / "runs" / f"{time.monotonic_ns()}"
    with contextlib.suppress(EnoughError):
        train(cfg, output, callbacks=[window])
    shutil.rmtree(output, ignore_errors=True)  # checkpoints of several hundred megabytes


class Loop:
    """Training steps on tensors that are on the device already: forward, backward, optimizer.

    Args:
        case: backbone and size.
        batch: images per step.
        folder: folder of the benchmark.
        precision: Lightning's name.
        channels_last: memory format of weights and images.
        complete: also augment, clip the gradient, count and schedule, as our run does.
        compiled: compile the step.
    """

    def __init__(
        self, case: Case, batch: int, folder: Path, precision: str, *,
        channels_last: bool, complete: bool = False, compiled: bool = False,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        cfg, target, size = config(case, folder), device(), case[1]
        built = build_model(cfg, classes=("femaleeyes", "maleeyes"), weights=1.0)
        self.module: Classifier = built.classifier.to(target)
        self.network = self.module.network.train()
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network.use_memory_format(memory_format)
        self.scaler = torch.amp.GradScaler(target.type) if precision == "16-mixed" else None
        self.optimizer = self.module.optimization.build_optimizer(
            self.module.parameter_groups(), fused=self.scaler is None
        )
        self.scheduler = self.module.optimization.build_scheduler(self.optimizer, 100_000)
        self.dtype, self.device, self.complete, self.compiled = DTYPES[precision], target, complete, compiled
        self.stages = self.network.suffix
        self.labels = (torch.arange(batch, device=target) % 2).float()
        self.pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=target)
        self.inputs = self.network.normalise(self.pixels).contiguous(memory_format=memory_format)
        if compiled:
            self.network.compile_steps()

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            if self.complete and self.module.augment is not None:
                logits = self.network(self.module.augment(self.pixels, torch.default_generator))
            elif self.compiled:
                logits = self.network(self.pixels)
            else:
                logits = self.network.head(self.stages(self.inputs)).float()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, self.labels)
        if self.scaler is not None:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return
        loss.backward()
        if self.complete:
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        if self.complete and self.scheduler is not None:
            self.scheduler.step()


class PlainModule(pl.LightningModule):
    """torchvision's network with one output, AdamW and the one-cycle schedule."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__()
        self.network = backbone_class(config(case, folder).model).torchvision_network()
        if case[0] == "inception_v3":
            self.network.fc = nn.Linear(2048, 1)
        else:
            self.network.classifier[1] = nn.Linear(1280, 1)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        pixels, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self.network(pixels)[:, 0], labels.float())

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def plain(case: Case, batch: int, folder: Path, precision: str) -> float:
    """Images per second of the plain stack in its first epoch, after the images that its workers had ready."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    changes = [
        transforms.RandomHorizontalFlip(), transforms.Resize((case[1], case[1])), transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]  # fmt: skip
    loader = DataLoader(
        ImageFolder(str(folder / "eyes"), transforms.Compose(changes)), batch, shuffle=True, num_workers=workers(),
        pin_memory=torch.cuda.is_available(), drop_last=True,
    )  # fmt: skip
    window = Window(min(3 * workers(), len(loader) // 2), 1)
    settings = trainer_settings(config(case, folder))
    trainer = pl.Trainer(
        max_epochs=2, accelerator=settings.accelerator, devices=1, precision=precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[window],
        default_root_dir=folder,
    )  # fmt: skip
    with contextlib.suppress(EnoughError):
        trainer.fit(PlainModule(case, folder), loader)
    return window.rates[0]


def workers() -> int:
    return min(cores(), 16) if torch.cuda.is_available() else 1


def name_of(precision: str, channels_last: bool) -> str:
    return f"{precision}, {'channels last' if channels_last else 'contiguous'}"


def training(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """Tracked runs against bare loops and the plain stack."""
    yield (
        "table", "Full fine-tuning, images per second",
        ("network and size", "batch", "ours computes in", "bare loop", "bare loop, augmented and clipped",
         "tracked run, first epoch", "later epochs", "whole epoch", "later / bare"),
    )  # fmt: skip
    memory, reached = [], {}
    for batch in sizes.batches:
        for case in sizes.cases:
            fresh_memory()
            window = Window(sizes.warm_up, 3)
            tracked(case, batch, folder, window)
            name, (precision, channels_last) = f"{case[0]}@{case[1]}", window.chosen
            memory.append((name, str(batch), peak_gib(), f"{window.first_step:.2f}"))
            fresh_memory()
            bare, complete = (
                rate(Loop(case, batch, folder, precision, channels_last=channels_last, complete=c), batch, sizes)
                for c in (False, True)
            )
            later = window.rates[-1]  # the tracking store is complete by then
            if batch == sizes.batches[0]:
                reached[name] = precision, later
                (folder / TRACKED).write_text(json.dumps(reached))
            whole = window.images / (window.starts[-1] - window.starts[-2])
            yield (
                "row",
                (name, str(batch), name_of(*window.chosen), f"{bare:.0f}", f"{complete:.0f}", f"{window.rates[0]:.0f}",
                 f"{later:.0f}", f"{whole:.0f}", f"{later / bare:.2f}"),
            )  # fmt: skip
    title = "Peak memory and first step of those runs"
    yield "table", title, ("network and size", "batch", "peak GiB", "first step, s")
    for row in memory:
        yield "row", row
    yield (
        "note",
        "The first epoch reads images from the store, later ones have them on the GPU; a whole epoch includes "
        f"validation and checkpoints. Aim: later / bare {AIM} or more. The first step of the first run includes the "
        "start of CUDA's libraries.",
    )


def plain_stack(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """The plain stack in its own precision and in ours, against the tracked runs if those were measured."""
    yield (
        "table", "The plain stack, images per second",
        ("network and size", "batch", "precision", "plain stack", "tracked run", "tracked / plain"),
    )  # fmt: skip
    found = folder / TRACKED
    reached = json.loads(found.read_text()) if found.exists() else {}
    batch = sizes.batches[0]
    for case in sizes.cases:
        name = f"{case[0]}@{case[1]}"
        ours, later = reached.get(name, (trainer_settings(config(case, folder)).precision, None))
        for precision in dict.fromkeys(("32-true", ours)):
            fresh_memory()
            speed = plain(case, batch, folder, precision)
            compared = ("not measured", "") if later is None else (f"{later:.0f}", f"{later / speed:.2f}")
            yield "row", (name, str(batch), precision, f"{speed:.0f}", *compared)
    yield "note", f"ImageFolder, flips, a DataLoader with {workers()} workers and Lightning; contiguous tensors."


def precisions(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """Every precision and memory format, then cudnn.benchmark, in the bare loop."""
    columns = [f"batches of {batch}" for batch in sizes.batches]
    header = ("network and size", "precision and layout", *columns, "ours chooses")
    yield "table", "Bare loop, images per second", header
    names = [name for name in DTYPES if name != "16-mixed" or torch.cuda.is_available()]
    options = [(name, channels_last, False) for channels_last in (True, False) for name in names]
    options += [(name, True, True) for name in ("bf16-mixed", "32-true") if torch.cuda.is_available()]
    for case in sizes.cases:
        network = build_model(config(case, folder), classes=("a", "b"), weights=1.0).classifier.network
        if torch.cuda.is_available():
            ours = fastest_training(network, case[0], case[1], device(), from_features=False)
        else:
            ours = (LIGHTNING["float32"], True)  # measuring it takes longer than the rest of the test
        for name, channels_last, benchmark in options:
            cells = []
            for batch in sizes.batches:
                fresh_memory()
                torch.backends.cudnn.benchmark = benchmark
                try:
                    loop = Loop(case, batch, folder, name, channels_last=channels_last)
                    cells.append(f"{rate(loop, batch, sizes):.0f}")
                    del loop
                finally:
                    torch.backends.cudnn.benchmark = False
            label = name_of(name, channels_last) + (", cudnn.benchmark" if benchmark else "")
            is_ours = (name, channels_last, benchmark) == (*ours, False)
            yield "row", (f"{case[0]}@{case[1]}", label, *cells, "yes" if is_ours else "")


def compiled(sizes: Sizes, folder: Path) -> Iterator[tuple]:
    """Compiled steps against steps that are not."""
    yield (
        "table", "Compiled steps in the bare loop, images per second",
        ("network and size", "batch", "not compiled", "compiled", "compiled / not", "the first three steps take, s"),
    )  # fmt: skip
    precision, batch = "bf16-mixed" if torch.cuda.is_available() else "32-true", sizes.batches[0]
    for case in sizes.cases:
        fresh_memory()
        loops = [Loop(case, batch, folder, precision, channels_last=True, compiled=c) for c in (False, True)]
        before = rate(loops[0], batch, sizes)
        began = synchronized()
        for _ in range(3):
            loops[1]()
        cost = synchronized() - began
        after = rate(loops[1], batch, sizes)
        gain = f"{after / before:.2f}"
        yield "row", (f"{case[0]}@{case[1]}", str(batch), f"{before:.0f}", f"{after:.0f}", gain, f"{cost:.1f}")
