"""A run asks its tracking store for few things, however many metrics it has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import mlflow
import pytest

from eyegender.training.run import train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration

EPOCHS = 6


def test_metrics_travel_an_epoch_at_a_time_at_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    metrics = []

    def counted(name: str, method: Any) -> Any:
        def call(self: mlflow.MlflowClient, *args: Any, **options: Any) -> Any:
            asked[name] += 1
            if options.get("metrics"):
                metrics.append(len(options["metrics"]))
            return method(self, *args, **options)

        return call

    for name, method in vars(mlflow.MlflowClient).items():
        if not name.startswith("_") and callable(method):
            monkeypatch.setattr(mlflow.MlflowClient, name, counted(name, method))
    train(
        tiny_config(f"tracking.root={tmp_path / 'mlruns'}", f"trainer.max_epochs={EPOCHS}", "model.finetune_depth=0"),
        tmp_path / "out",
    )
    assert len(metrics) <= EPOCHS + 2  # the last are of the test part, once more for the model's page
    assert sum(metrics) > 20 * EPOCHS
    assert not {"log_metric", "log_param", "set_tag", "log_params", "log_metrics"} & asked.keys()
    assert asked["log_batch"] <= len(metrics) + 6  # tags, and parameters by the hundred
    # Files travel several at a time. The histories are those of the test metrics, for the model's page.
    assert asked.total() - asked["log_model_artifact"] < 60, asked
