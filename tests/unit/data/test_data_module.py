"""The data module as the trainer uses it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from eyegender.core.errors import UserError
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader
from eyegender.data.loader import Batch

CLASSES = ["femaleeyes", "maleeyes"]


def module(root: Path, **options: Any) -> EyesDataModule:
    data = EyesDataModule(FolderReader(root, CLASSES), 16, **{"batch_size": 4, **options})
    data.setup()
    return data


def test_counts_names_and_fingerprints(folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder()
    data = module(root)
    assert data.counts() == {
        "train": {"femaleeyes": 14, "maleeyes": 14},
        "val": {"femaleeyes": 2, "maleeyes": 2},
        "test": {"femaleeyes": 4, "maleeyes": 4},
    }
    assert (data.source, data.store.shape[1], len(data.samples)) == ("folder", 1, 40)
    moved = module(root.rename(tmp_path / "moved"))
    assert (moved.fingerprint, moved.split.fingerprint) == (data.fingerprint, data.split.fingerprint)
    assert module(tmp_path / "moved", color="rgb").fingerprint != data.fingerprint
    # The split does not depend on the size or color mode, so that these can be compared.
    assert module(tmp_path / "moved", color="rgb").split.fingerprint == data.split.fingerprint


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_unreadable_images_are_an_error_or_left_out_in_every_run(folder: Callable[..., Path], on_bad: str) -> None:
    root = folder()
    (root / "femaleeyes" / "2.png").write_bytes(b"")
    (root / "maleeyes" / "4.png").write_bytes(b"<html>")
    for _ in range(2):
        if on_bad == "error":
            with pytest.raises(UserError, match=r"got 2 of 40 that are not .*data\.on_bad=skip") as caught:
                module(root, on_bad=on_bad)
            assert caught.value.details == (
                "femaleeyes/2.png: empty file",
                "maleeyes/4.png: not a JPEG, PNG, BMP or WebP image",
            )
        else:
            data = module(root, on_bad=on_bad)
            assert list(data.skipped) == ["femaleeyes/2.png", "maleeyes/4.png"]
            assert len(data.samples) == 38
            pixels = torch.cat([batch.pixels for batch in data.train_dataloader()])
            assert pixels.flatten(1).any(dim=1).all()


def test_a_class_without_readable_images_is_refused(folder: Callable[..., Path]) -> None:
    root = folder()
    for path in (root / "femaleeyes").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(UserError, match="at least one image each of class 'femaleeyes', got 0"):
        module(root, on_bad="skip")


def test_runs_stay_together_in_a_subset(folder: Callable[..., Path]) -> None:
    root = folder(range(40), range(0, 80, 2))
    data = module(root, subset={"female": 20, "male": 20}, split_by="random")
    assert sum(sum(split.values()) for split in data.counts().values()) == 40
    # Forty consecutive numbers are one run, even if the subset has gaps.
    assert module(root, subset={"female": 20, "male": 20}).split.kind == "blocks"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "people"}, "must be one of person, random, file, official"),
        ({"split_by": "file"}, "data.split.file goes with"),
        ({"split_file": "x.csv"}, "data.split.file goes with"),
        ({"test_fraction": 0.95}, "sum to less than 1"),
    ],
)
def test_options_are_checked(folder: Callable[..., Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(folder(), **options)


class Recorder(pl.LightningModule):
    """Learns nothing, records which images it gets, and can be interrupted."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shown: list[tuple[int, list[int]]] = []
        self.stop_at = stop_at

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.shown.append((self.current_epoch, batch.indices.tolist()))
        return self.weight.sum() * 0

    def on_train_batch_end(self, *_: Any) -> None:
        if self.stop_at == len(self.shown):
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "stop.ckpt")
            raise KeyboardInterrupt

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(root: Path, output: Path, stop_at: int | None = None, ckpt: Path | None = None) -> list[tuple[int, list[int]]]:
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=output,
    )  # fmt: skip
    model = Recorder(stop_at)
    try:
        trainer.fit(model, datamodule=EyesDataModule(FolderReader(root, CLASSES), 16, batch_size=4), ckpt_path=ckpt)
    except (KeyboardInterrupt, SystemExit):
        assert stop_at is not None
    return model.shown


# Where Slurm is installed Lightning recommends it; torch 2.14 deprecates a check that Lightning 2.6 still makes.
@pytest.mark.filterwarnings("ignore:The .srun. command is available")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.parametrize("stop_at", [1, 3, 7, 8, 10, 14, 15])
def test_lightning_resumes_within_an_epoch(folder: Callable[..., Path], tmp_path: Path, stop_at: int) -> None:
    """Seven batches per epoch, interrupted in the middle, at the end and at the start of an epoch."""
    root = folder()
    whole = fit(root, tmp_path)
    assert len(whole) == 21
    assert len({tuple(shown) for _, shown in whole}) == 21
    before = fit(root, tmp_path, stop_at)
    after = fit(root, tmp_path, ckpt=tmp_path / "stop.ckpt")
    assert before + after == whole


def test_readers_and_splits_do_not_import_torch() -> None:
    script = """
import sys
import eyegender.data.celeba, eyegender.data.folder, eyegender.data.grouping
import eyegender.data.pixel_cache, eyegender.data.split_file
assert not {"torch", "pandas", "mlflow", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_batches_do_not_change_the_arrays(folder: Callable[..., Path]) -> None:
    data = module(folder())
    labels = data.samples.labels.copy()
    for batch in data.train_dataloader():
        batch.labels.fill_(7)
    assert np.array_equal(labels, data.samples.labels)
