"""A training whose output nobody can take any more is trained, tested and tracked to its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import processes
from tests.composing import TINY

pytestmark = pytest.mark.integration

# Standard output on a full disk, standard error closed, and neither would know more than ASCII.
SCRIPT = """
import os, runpy, sys
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
os.close(2)
sys.modules.pop("eyegender.train", None)
runpy.run_module("eyegender.train", run_name="__main__", alter_sys=True)
"""


def test_a_training_whose_output_is_lost_is_complete(tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text(SCRIPT)
    done = processes.run(
        str(tmp_path / "lost.py"), *TINY, "trainer.max_epochs=1", "hydra.run.dir=out", cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0
    left = json.loads((tmp_path / "out/metrics.json").read_text())
    assert left["epochs"] == 1
    assert "test/accuracy" in left["metrics"]
    assert "epoch 1/1" in (tmp_path / "out/train.log").read_text()
    assert (tmp_path / "out/run.json").is_file()
