"""Three classes where more than one part is involved: two processes, a library's network, a source that names none."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests import processes
from tests.composing import SMALL
from tests.digits import NAMES, write_digits

pytestmark = pytest.mark.integration

THREE = NAMES[:3]
# As a package of a user may have it: it lists the images of folders, but does not say beforehand what they are.
READER = """
from eyegender.data.folder import FolderReader

class Untold:
    def __init__(self, root: str) -> None:
        self.reader = FolderReader(root)

    def read(self):
        return self.reader.read()
"""
SOURCE = "defaults: [_common, _self_]\nroot: ???\nreader: {_target_: untold.Untold, root: '${data.root}'}\n"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "pictures", per_class=24, names=THREE)


def test_two_processes_train_a_librarys_network(pictures: Path, tmp_path: Path) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "model=torchvision", "model.name=resnet18")
    options = (*SMALL, *two, "model.ema=0.9", "model.pos_weight=balanced")
    done = processes.run("eyegender.train", "data=folder", f"data.root={pictures}", *options, "output=out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    run = client.get_run(json.loads((tmp_path / "out/run.json").read_text())["run_id"])
    assert run.info.status == "FINISHED"
    recalls = [run.data.metrics[f"test/recall/{name}"] for name in THREE]
    assert run.data.metrics["test/recall"] == pytest.approx(np.mean(recalls), abs=1e-6)
    # Every test image once: none is lost or counted twice on the way from two processes.
    table = json.loads((tmp_path / "out/test_predictions.json").read_text())
    column = table["columns"].index("name")
    names = [row[column] for row in table["data"]]
    assert len(set(names)) == len(names) == sum(written["data"]["counts"]["test"].values())


def test_a_source_that_does_not_name_three_classes_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "untold.py").write_text(READER)
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/untold.yaml").write_text(SOURCE)
    options = ("--config-dir", "conf", "data=untold", f"data.root={pictures}", *SMALL)
    done = processes.run("eyegender.train", *options, env={"EYEGENDER_PLUGINS": "untold"})
    assert done.returncode == 2
    assert "epoch" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "class_names" in line]
    assert "they are not two, got 3 from Untold; give it a method class_names" in line
    assert "Traceback" not in done.stderr
