"""What a run prints at its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eyegender.tracking.location import Location
from eyegender.training.summary import SHOWN, print_summary


@pytest.mark.parametrize(("positive", "shown"), [("dogs", "dogs"), ("[red]dogs\n", "[red]dogs\\n")])
def test_the_table_names_the_positive_class_of_the_data(
    tmp_path: Path, positive: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker: Any = SimpleNamespace(
        location=Location("http://tracking.example", None),
        run_id="abc",
        experiment_id="1",
        sender=SimpleNamespace(refused=[]),
    )
    cfg: Any = SimpleNamespace(model=SimpleNamespace(name="mobilenet_v2"))
    metrics = {f"test/{name}": 0.5 for name in SHOWN}
    print_summary(cfg, metrics, tmp_path, tracker, source="folder", positive=positive, complete=True)
    printed = capsys.readouterr().out
    assert f"metric ({shown} = positive)" in printed
    assert "male" not in printed
