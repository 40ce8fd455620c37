"""Compiled steps in a real run: the same training, the same checkpoints, and exact continuation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eyegender.training.autotune import find_compiler
from eyegender.training.run import RunResult, train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration


def run(folder: Path, *overrides: str) -> RunResult:
    return train(
        tiny_config(
            "features=on", "model.finetune_depth=1", "scheduler=constant", "run_test=false",
            f"tracking.root={folder.parent / 'mlruns'}", *overrides,
        ),
        folder,
    )  # fmt: skip


@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
def test_compiled_steps_train_the_same_and_resume_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes for one small graph
    plain = run(tmp_path / "plain")
    compiled = run(tmp_path / "compiled", "trainer.compile=true")
    assert compiled.module.network._compiled_call_impl is not None
    for key in ("train/loss", "val/loss"):
        losses = [[row[key] for row in result.history] for result in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    first = run(tmp_path / "first", "trainer.compile=true", "trainer.max_epochs=1")
    last = first.output_dir / "checkpoints" / "last.ckpt"
    resumed = run(tmp_path / "resumed", "trainer.compile=true", f"ckpt_path={last}")
    assert [row["train/loss"] for row in resumed.history] == [row["train/loss"] for row in compiled.history]
    states = [
        torch.load(result.output_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for result in (plain, compiled, resumed)
    ]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
