"""What Hydra's callbacks refuse before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from eyegender.core.errors import UserError
from eyegender.training.hydra_callbacks import CheckOutput


@pytest.mark.parametrize(("value", "accepted"), [("yes", True), ("On", True), (1, True), ("no", False), (None, False)])
def test_overwrite_is_what_the_schema_reads_as_true(value: object, accepted: bool, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").touch()
    folder = {"run": {"dir": str(tmp_path)}, "sweep": {"dir": str(tmp_path)}}
    config = OmegaConf.create({"hydra": folder, "output": None, "ckpt_path": None, "overwrite": value})
    for start in (CheckOutput().on_run_start, CheckOutput().on_multirun_start):
        if accepted:
            (tmp_path / "metrics.json").touch()
            start(config)
        else:
            with pytest.raises(SystemExit) as caught:
                start(config)
            assert isinstance(caught.value.__cause__, UserError)
