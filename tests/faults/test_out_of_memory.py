"""The allocator refuses memory: the run says which keys to lower, or computes its batches as micro-batches."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.core.schema import parse
from eyegender.models.classifier import Classifier
from eyegender.training.run import train
from tests.composing import SMALL, compose_config, tiny_config
from tests.digits import NAMES, write_digits

pytestmark = pytest.mark.integration

# Without trainable batch-norm, micro-batches give the same result as the batch.
EXACT = ("model.finetune_depth=0", "features=off", "model.dropout=0", "trainer.max_epochs=2")


@pytest.fixture
def at_most_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than five images at once ask for a pebibyte, which torch's allocator refuses."""
    plain = Classifier._logits

    def greedy(self: Classifier, inputs: torch.Tensor, *, is_features: bool) -> torch.Tensor:
        if len(inputs) > 5:
            torch.empty(2**50, dtype=torch.uint8)
        return plain(self, inputs, is_features=is_features)

    monkeypatch.setattr(Classifier, "_logits", greedy)


def test_a_run_without_memory_says_what_to_lower(at_most_five: None, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"out of memory at step 0 \(.*allocate.*lower trainer.batch_size \(now 16\).*on_oom=halve"
    ) as told:
        train(tiny_config(*EXACT), tmp_path / "out")
    assert "\n" not in str(told.value)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id])
    assert run.info.status == "FAILED"


def test_micro_batches_give_the_same_result(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    norms: list[float] = []
    plain = Classifier.configure_gradient_clipping

    def noted(self: Classifier, optimizer: torch.optim.Optimizer, *arguments: Any, **options: Any) -> None:
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])))
        plain(self, optimizer, *arguments, **options)

    monkeypatch.setattr(Classifier, "configure_gradient_clipping", noted)
    whole = train(tiny_config(*EXACT), tmp_path / "whole")
    request.getfixturevalue("at_most_five")
    with caplog.at_level(logging.WARNING):
        parts = train(tiny_config(*EXACT, "trainer.on_oom=halve"), tmp_path / "parts")
    steps = whole.trainer.global_step
    assert parts.trainer.global_step == steps
    assert norms[steps:] == pytest.approx(norms[:steps], rel=1e-3)
    for name in ("train/loss", "val/loss", "train/auroc"):
        assert [row[name] for row in parts.history] == pytest.approx([row[name] for row in whole.history], rel=1e-4)
    assert parts.metrics["test/loss"] == pytest.approx(whole.metrics["test/loss"], rel=1e-4)
    told = [record.message for record in caplog.records if "out of memory" in record.message]
    # Once for each halving, not at each step.
    assert [line.partition(";")[0] for line in told if "training" in line] == [
        "out of memory while training on 15 images at once", "out of memory while training on 8 images at once"
    ]  # fmt: skip


def test_micro_batches_of_three_classes_give_the_same_result(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pictures = write_digits(tmp_path / "pictures", per_class=20, names=NAMES[:3])
    three = (*SMALL, *EXACT, "data=folder", f"data.root={pictures}", "model.pos_weight={one: 2}", "model.mixup=0.2")
    whole = train(parse(compose_config(*three)), tmp_path / "whole")
    request.getfixturevalue("at_most_five")
    parts = train(parse(compose_config(*three, "trainer.on_oom=halve")), tmp_path / "parts")
    for name in ("train/loss", "val/loss", "val/f1"):
        assert [row[name] for row in parts.history] == pytest.approx([row[name] for row in whole.history], rel=1e-4)
    assert parts.metrics["test/loss"] == pytest.approx(whole.metrics["test/loss"], rel=1e-4)
