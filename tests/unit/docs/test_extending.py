"""The backbone and the data source of docs/extending.md, trained."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from my_eyes.csv_table import CsvReader
from my_eyes.resnet18 import ResNet18

from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig, parse
from eyegender.data.readers import UnreadableImageError
from eyegender.data.synthetic import SyntheticReader
from eyegender.training.build import build_data, build_optimization
from eyegender.training.run import train
from tests.composing import SMALL, compose_config
from tests.unit.docs.pages import ROOT
from tests.unit.models.contracts import BackboneContract

EXAMPLES = ROOT / "docs/examples/my_eyes"


class TestResNet18(BackboneContract):
    cls = ResNet18
    stages = 9


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """48 synthetic eyes of 24 persons as files, and the table that lists them in reverse order."""
    samples = SyntheticReader(n=48, size=32).read()
    assert samples.persons is not None
    path = tmp_path / "eyes.csv"
    with path.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["file", "label", "person"])
        for i in reversed(range(48)):
            samples.open(i).save(tmp_path / f"{i:03d}.png")
            writer.writerow([f"{i:03d}.png", samples.classes[samples.labels[i]], samples.persons[i]])
    return path


def composed(table: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """The config of the page's command, tiny."""
    monkeypatch.setenv("EYEGENDER_PLUGINS", "my_eyes")
    own = ["model=resnet18", "data=csv", f"data.table={table}", "model.finetune_depth=3"]
    tiny = [*SMALL, "trainer.max_epochs=1", "features=off"]
    return parse(compose_config(f"hydra.searchpath=[file://{EXAMPLES}/conf]", *own, *tiny))


def test_both_train_and_are_tracked(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(composed(table, monkeypatch), tmp_path / "run")
    assert 0 <= result.metrics["test/accuracy"] <= 1
    assert len(result.history) == 1
    import mlflow

    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").get_run(result.run_id)
    assert run.data.params["model.name"] == "resnet18"
    assert run.data.metrics["test/accuracy"] == pytest.approx(result.metrics["test/accuracy"])


def test_no_person_of_the_table_is_in_two_splits(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_data(composed(table, monkeypatch))
    data.setup("fit")
    persons = np.array(data.persons)
    parts = [set(persons[data.split.index(part)]) for part in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 24


def test_without_the_variable_neither_is_built(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed(table, monkeypatch)
    monkeypatch.delenv("EYEGENDER_PLUGINS")
    with pytest.raises(UserError, match="EYEGENDER_PLUGINS"):
        build_data(cfg)


def test_an_unusable_table_gives_a_one_line_error(table: Path) -> None:
    with pytest.raises(UserError, match=r"data\.table must be a CSV file, got .*nowhere.csv"):
        CsvReader(str(table.with_name("nowhere.csv"))).read()
    table.write_text("file,label,person\n000.png,unknown,1\n")
    with pytest.raises(UserError, match=r"labels must be female or male, got \['unknown'\]"):
        CsvReader(str(table)).read()


def test_a_damaged_image_is_unreadable(table: Path) -> None:
    table.with_name("000.png").write_bytes(b"no picture")
    samples = CsvReader(str(table)).read()
    assert samples.names[0] == "000.png"
    with pytest.raises(UnreadableImageError):
        samples.open(0)


def test_the_page_shows_these_very_files() -> None:
    page = (ROOT / "docs/extending.md").read_text()
    shown = set(re.findall(r'^--8<-- "docs/examples/my_eyes/(.+)"$', page, re.MULTILINE))
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.suffix in {".py", ".yaml"}}
    assert shown == files - {"__init__.py"}


def test_a_backbone_and_a_data_source_take_two_files_each() -> None:
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*") if "__" not in str(path)}
    assert files == {"resnet18.py", "conf/model/resnet18.yaml", "csv_table.py", "conf/data/csv.yaml"}


def test_an_argument_of_an_optimizer_takes_no_file() -> None:
    optimization = build_optimization(parse(compose_config("+optimizer.amsgrad=true", *SMALL)))
    optimizer = optimization.build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))]}])
    assert optimizer.defaults["amsgrad"] is True
