"""A run of three classes on MLflow's HTTP server: trained, compared, promoted and loaded from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eyegender.comparison.workflow import compare_runs
from eyegender.core.options import CompareOptions
from eyegender.core.schema import parse, parse_as
from eyegender.inference.load import load_model
from eyegender.registry.promotion import promote
from eyegender.tracking.tracking_store import open_store
from eyegender.training.run import train
from tests.composing import SMALL, compose_config
from tests.digits import NAMES, write_digits
from tests.faults.mlflow_server import Server

pytestmark = pytest.mark.integration


def test_three_classes_from_a_run_to_the_registry(server: Server, tmp_path: Path) -> None:
    server.start()
    pictures = write_digits(tmp_path / "pictures", per_class=24, names=NAMES[:3])
    where = ("tracking=server", f"tracking.uri={server.url}", "tracking.experiment=three")
    config = parse(compose_config("data=folder", f"data.root={pictures}", *SMALL, *where))
    results = [train(config.model_copy(update={"seed": seed}), tmp_path / str(seed)) for seed in (0, 1)]
    store = open_store(config.tracking)
    runs = [store.run(str(result.run_id)) for result in results]
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert {f"test/auroc/{name}" for name in NAMES[:3]} <= runs[0].data.metrics.keys()

    options = parse_as(compose_config("pick=all", "latency=false", *where, name="compare"), CompareOptions)
    compared = compare_runs(store, options, tmp_path / "page")
    assert "## Classes of group" in (tmp_path / "page/comparison.md").read_text()
    assert len(compared.comparison.runs) == 2
    promotion = promote(store, str(results[0].run_id), name="three", alias="champion", force=False)
    assert "Predicts which of 3 classes" in promotion.card
    model = load_model("models:/three@champion", config.tracking)
    assert model.spec.classes == tuple(sorted(NAMES[:3]))
    assert model.probabilities(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2, 3)
