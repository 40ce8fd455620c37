"""`experiment=celeba`: all of CelebA with its official split, tried on a part of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from eyegender.tracking.predictions import Predictions
from tests import processes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_one_command_trains_on_both_eyes_of_the_official_parts(real_celeba: Path, tmp_path: Path) -> None:
    done = processes.run(
        "eyegender.train", "experiment=celeba", f"data.root={real_celeba}", "model.weights=null", "data.size=32",
        "trainer.max_epochs=1", "trainer=cpu", f"output={tmp_path / 'out'}", f"tracking.root={tmp_path / 'mlruns'}",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((tmp_path / "out/test_predictions.json").read_text())
    found = Predictions.from_columns(dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True)))
    home = next(real_celeba.rglob("list_eval_partition.txt")).parent
    parts = dict(line.split() for line in (home / "list_eval_partition.txt").read_text().splitlines())
    persons = dict(line.split() for line in (home / "identity_CelebA.txt").read_text().splitlines())
    tested = {face for face, part in parts.items() if part == "2"}
    # Both eyes of each face, and of nobody who is in another part.
    assert len(found) == 2 * len(tested)
    assert {name.rpartition("/")[2].partition(".jpg")[0] + ".jpg" for name in found.names} == tested
    assert found.persons is not None
    elsewhere = {persons[face] for face, part in parts.items() if part != "2"}
    assert not {persons[face] for face in tested} & elsewhere
    assert len(set(found.persons)) == len({persons[face] for face in tested})
