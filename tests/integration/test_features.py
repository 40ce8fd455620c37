"""Stored activations against pictures: the same predictions, the same accuracy, and runs that do not notice."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from eyegender.core.errors import UserError
from eyegender.features.build import ImageSource, StoreSource
from eyegender.features.plan import ActivationPlan, stored_activations
from eyegender.features.store import STORE_POOL
from eyegender.training.build import build_data, build_model
from eyegender.training.run import RunResult, train
from tests.composing import compose_config, tiny_config
from tests.stores import give_store

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.data.data_module import EyesDataModule
    from eyegender.data.loader import Batch
    from eyegender.models.classifier import Classifier

pytestmark = pytest.mark.integration

OPTIONS: Any = {"compute_dtype": lambda _passes: torch.float32, "check": lambda: None}

MODELS = {
    "mobilenet_v2": ("data.size=32",),
    "inception_v3": ("model=inception_v3", "data.size=75"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    STORE_POOL.clear()
    return tmp_path / "cache"


@dataclass
class Prepared:
    data: EyesDataModule
    module: Classifier

    def from_store(self, batch: Batch) -> torch.Tensor:
        assert batch.is_features
        return self.module.network.from_features(batch.pixels)

    def from_pictures(self, batch: Batch) -> torch.Tensor:
        return self.module(torch.from_numpy(self.data.pixels(batch.indices.numpy())))


def prepared(*overrides: str, depth: int = 0) -> Prepared:
    """What a run has just before its fit."""
    cfg = tiny_config("features=on", f"model.finetune_depth={depth}", *overrides)
    torch.manual_seed(0)
    data = build_data(cfg)
    data.setup("fit")
    module = build_model(cfg, classes=data.samples.classes, weights=1.0).classifier
    _settle(module, data)
    data.batch_source = stored_activations(cfg, module, data, torch.device("cpu"), **OPTIONS)
    module.eval()
    return Prepared(data, module)


def _settle(module: Classifier, data: EyesDataModule) -> None:
    """Statistics of real passes and a loud head: a fresh network answers 0.5 whatever it sees."""
    stages = module.network.stages.train()
    for part in stages.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        stages(module.network.normalise(torch.from_numpy(data.pixels(data.split.train[:16]))))
    for part in module.network.head.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.2)
    module.network.train()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("depth", [0, 3, 6])
def test_predictions_are_the_same_with_and_without_the_store(model: str, depth: int) -> None:
    run = prepared(*MODELS[model], depth=depth)
    with torch.inference_mode():
        for batch in [*run.data.val_dataloader(), *run.data.test_dataloader()]:
            expected = run.from_pictures(batch)
            assert expected.std() > 0.05
            assert torch.allclose(run.from_store(batch), expected, atol=0.02 * float(expected.std()))


@pytest.mark.parametrize(("dtype", "share"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_other_types_to_store_in(dtype: str, share: float) -> None:
    run = prepared(f"features.dtype={dtype}", depth=3)
    batch = next(iter(run.data.val_dataloader()))
    with torch.inference_mode():
        expected = run.from_pictures(batch)
        assert torch.allclose(run.from_store(batch), expected, atol=share * float(expected.std()))


def test_a_head_that_pools_stores_vectors_and_one_that_does_not_stores_maps() -> None:
    assert next(iter(prepared().data.val_dataloader())).pixels.ndim == 2
    assert next(iter(prepared("model.head=paper").data.val_dataloader())).pixels.ndim == 4


def test_epochs_draw_among_the_views_and_evaluation_sees_the_original() -> None:
    run = prepared("features.views=3", "features.dtype=float32")
    loader = run.data.train_dataloader()
    seen: dict[int, set[bytes]] = {}
    for epoch in range(12):
        loader.set_epoch(epoch)
        batches = list(loader)
        again = list(loader)
        for one, two in zip(batches, again, strict=True):
            assert torch.equal(one.pixels, two.pixels)  # a function of the epoch
            for features, index in zip(one.pixels, one.indices.tolist(), strict=True):
                seen.setdefault(index, set()).add(features.numpy().tobytes())
    counts = [len(forms) for forms in seen.values()]
    assert max(counts) == 3
    assert np.mean(counts) > 2.5
    pictures = torch.from_numpy(run.data.pixels(run.data.split.train[:4])).flip(3)
    with torch.inference_mode():
        network = run.module.network
        mirrored = network.prefix(network.normalise(pictures)).mean((2, 3))
    for features, index in zip(mirrored, run.data.split.train[:4].tolist(), strict=True):
        forms = [torch.frombuffer(bytearray(form), dtype=torch.float32) for form in seen[index]]
        assert min(float((form - features).norm() / features.norm()) for form in forms) < 1e-3


def test_flip_test_reads_the_mirror_image_from_the_store() -> None:
    run = prepared("model.flip_test=true", depth=2)
    batch = next(iter(run.data.test_dataloader()))
    pixels = torch.from_numpy(run.data.pixels(batch.indices.numpy()))
    with torch.inference_mode():
        expected = run.module(pixels.flip(3))
        assert torch.allclose(
            run.module.network.from_features(batch.mirrored), expected, atol=0.02 * float(expected.std())
        )
    assert next(iter(run.data.val_dataloader())).mirrored is None


def test_another_depth_starts_from_the_deepest_cut_before_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(depth=8)
    prepared(depth=5)
    starts = []
    whole = ActivationPlan._deepest

    def noted(self: ActivationPlan, part: object) -> object:
        found = whole(self, part)
        starts.append(found[0])
        return found

    monkeypatch.setattr(ActivationPlan, "_deepest", noted)
    monkeypatch.setattr(ImageSource, "read", lambda *_: pytest.fail("read an image again"))
    read = StoreSource.read
    monkeypatch.setattr(StoreSource, "read", read)
    run = prepared(depth=2)
    assert set(starts) == {19 - 5}
    monkeypatch.undo()
    batch = next(iter(run.data.val_dataloader()))
    with torch.inference_mode():
        expected = run.from_pictures(batch)
        assert torch.allclose(run.from_store(batch), expected, atol=0.03 * float(expected.std()))


def test_other_weights_other_entries(own_cache: Path) -> None:
    prepared(depth=2)
    entries = {path.name for path in (own_cache / "activations").iterdir() if path.is_dir()}
    prepared(depth=2)
    assert {path.name for path in (own_cache / "activations").iterdir() if path.is_dir()} == entries
    prepared("data.split.seed=1", depth=2)  # other pictures
    prepared("data.color=gray", depth=2)
    assert len([path for path in (own_cache / "activations").iterdir() if path.is_dir()]) == 3 * len(entries)


def run(folder: Path, *overrides: str) -> RunResult:
    give_store(folder / "mlruns")
    return train(tiny_config(f"tracking.root={folder / 'mlruns'}", "run_test=false", *overrides), folder / "out")


def test_auto_stores_activations_if_that_saves_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "eyegender"):
        run(tmp_path / "a", "model.finetune_depth=0", "trainer.max_epochs=6")
        run(tmp_path / "b", "model.finetune_depth=0", "trainer.max_epochs=2", "seed=1")
        run(tmp_path / "c", "model.finetune_depth=0", "trainer.max_epochs=6", "features.max_gb=1e-6", "seed=1")
        run(tmp_path / "d", "model.finetune_depth=0", "trainer.max_epochs=2")  # stored before: pays always
        run(tmp_path / "e", "model.finetune_depth=0", "features=off")
        run(tmp_path / "f", "trainer.max_epochs=1")
    lines = [record.message for record in caplog.records if record.message.startswith("features:")]
    assert len(lines) == 4
    # 44 pictures train, 4 validate.
    assert "19 frozen stages ran once, which saves 108 forward passes" in lines[0]
    assert "run in every epoch, because 4 views per image take 180 forward passes and 2 epochs take 96" in lines[1]
    assert "GB of activations are more than features.max_gb allows (1e-06)" in lines[2]
    assert "19 frozen stages do not run" in lines[3]


def test_a_short_trial_stores_for_the_others_that_share_its_frozen_stages() -> None:
    cfg = tiny_config("model.finetune_depth=0", "trainer.max_epochs=2", "data.split.seed=7", "run_test=false")
    data = build_data(cfg)
    data.setup("fit")
    module = build_model(cfg, classes=data.samples.classes, weights=1.0).classifier
    # 44 pictures in 4 views and 4 in one: 180 passes, and 96 in two epochs without the store.
    for trials, message in (
        (1, "4 views per image take 180 forward passes and 2 epochs take 96"),
        (2, None),
    ):
        plan = ActivationPlan(cfg, module, data, torch.device("cpu"), **OPTIONS, reuse=trials)
        assert plan.obstacle() == message
    assert plan.passes_without_store - plan.passes_to_store == 2 * 96 - 180


def test_impossible_activations_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features.mode=on is not possible: .* more than features.max_gb allows"):
        run(tmp_path, "features=on", "model.finetune_depth=0", "features.max_gb=1e-6")


def test_mixup_prevents_stored_activations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features.mode=on is not possible: model.mixup=0.2 mixes images"):
        run(tmp_path, "features=on", "model.finetune_depth=0", "model.mixup=0.2")


def test_two_runs_from_the_store_are_equal_and_checkpoints_are_whole(tmp_path: Path) -> None:
    options = ("features=on", "model.finetune_depth=2", "trainer.max_epochs=2")
    one, two = run(tmp_path / "one", *options), run(tmp_path / "two", *options)
    plain = run(tmp_path / "plain", "features=off", *options[1:])
    for row in (*one.history, *two.history):
        row.pop("epoch_seconds")
    np.testing.assert_equal(one.history, two.history)
    states = [
        torch.load(result.output_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for result in (one, plain)
    ]
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        if "network.stages.features_5." in name:
            assert torch.equal(tensor, states[1][name])


def test_a_run_from_the_store_resumes_from_its_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ("features=on", "model.finetune_depth=0", "trainer.max_epochs=4", "scheduler=constant")
    whole = run(tmp_path / "whole", *options)
    first = run(tmp_path / "first", *options, "trainer.max_epochs=2")
    checkpoint = first.output_dir / "checkpoints" / "last.ckpt"
    with caplog.at_level(logging.INFO, "eyegender"):
        resumed = run(tmp_path / "second", *options, f"ckpt_path={checkpoint}")
    assert any("19 frozen stages do not run" in record.message for record in caplog.records)  # found by its weights
    assert [row["train/loss"] for row in resumed.history] == [row["train/loss"] for row in whole.history]


@pytest.mark.real_eyes
@pytest.mark.parametrize("depth", [0, 4])
def test_accuracy_on_real_eyes_is_the_same(real_eyes: Path, real_weights: Path, tmp_path: Path, depth: int) -> None:
    from eyegender.core.schema import parse

    accuracy = {}
    for mode in ("on", "off"):
        cfg = parse(
            compose_config(
                "data=folder", f"data.root={real_eyes}", "data.subset={female: 300, male: 300}", "data.size=64",
                f"model.weights={real_weights}", f"model.finetune_depth={depth}", "trainer=cpu",
                "trainer.progress=none", "trainer.max_epochs=4", f"features={mode}",
                f"tracking.root={tmp_path / 'mlruns'}",
            )
        )  # fmt: skip
        result = train(cfg, tmp_path / mode)
        metrics = json.loads((tmp_path / mode / "metrics.json").read_text())["metrics"]
        accuracy[mode] = metrics["test/accuracy"]
        assert result.score > 0.6
    # 120 test pictures: three standard errors of a difference between paired runs.
    assert abs(accuracy["on"] - accuracy["off"]) < 0.12
