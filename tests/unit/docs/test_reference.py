"""The reference names and describes every key of every config file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import config_reference
import pytest
from omegaconf import OmegaConf

from hydra_plugins.optuna_study.config import OptunaStudyConf
from tests.unit.docs.pages import ROOT

REFERENCE = config_reference.read_reference()
PAGE = config_reference.render(REFERENCE)
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]
FILES = sorted([*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("sweeps/*.yaml")])


def leaves(node: Any, prefix: str) -> list[str]:
    """Dotted keys; of a class and of a range by conditions the key alone."""
    if not isinstance(node, dict) or not node or "_target_" in node or any("=" in str(name) for name in node):
        return [prefix]
    return [leaf for name, value in node.items() for leaf in leaves(value, f"{prefix}.{name}" if prefix else name)]


def keys_of(path: Path) -> list[str]:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    folder = path.parent.relative_to(ROOT)
    overlay = path.read_text().startswith("# @package _global_")
    if folder.parts[0] == "conf" and len(folder.parts) == 1:
        content = {name: value for name, value in content.items() if name != "hydra"}
    content = {name: value for name, value in content.items() if name != "defaults"}
    found = leaves(content, "" if overlay else ".".join(folder.parts[1:])) if content else []
    # Mappings that are one value, as Hydra's command line takes it.
    whole = ("data.subset", "hydra.sweeper.renamed")
    return sorted({next((name for name in whole if key.startswith(f"{name}.")), key) for key in found})


def test_there_are_files_to_hold() -> None:
    assert len(FILES) > 20
    assert len(ROWS) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_key_has_a_row_with_a_description(path: Path) -> None:
    described = {row.split("`")[1] for row in ROWS if len(row.rstrip("| ").split(" | ")[-1].strip("`| ")) > 3}
    assert [key for key in keys_of(path) if key not in described] == []
    assert [key for key in keys_of(path) if not REFERENCE.describe(key)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is(path: Path) -> None:
    assert config_reference.read_config(path).about


def test_every_field_of_the_sweeper_is_described() -> None:
    fields = [name for name in OptunaStudyConf.__dataclass_fields__ if name[0] != "_" and name != "defaults"]
    assert [name for name in fields if not REFERENCE.describe(f"hydra.sweeper.{name}")] == []


@pytest.mark.parametrize("key", ["model.lr", "hydra.sweeper.n_trials", "data.split.by", "trainer.devices"])
def test_values_are_those_of_the_files(key: str) -> None:
    value = {"model.lr": "1e-3", "hydra.sweeper.n_trials": "20", "data.split.by": "person", "trainer.devices": "1"}[key]
    assert any(f"`{key}`" in row and f"| `{value}` |" in row for row in ROWS)


def test_a_comment_belongs_to_the_keys_under_it_and_to_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "# What it is.\n# Run: eyegender train x=1   (so)\n#      python -m eyegender.train\ndefaults: [a]\n"
        "\n# Both.\na: 1\nb: 2\n\nc: 3\n"
        "d:\n  # Inner.\n  e: 4\nf:\n  _target_: m.C\n  # Own.\n  g: 5\n  h: 6\n"
    )
    read = config_reference.read_config(path, "p")
    assert (read.about, read.commands) == ("What it is.", ("eyegender train x=1   # so", "python -m eyegender.train"))
    assert [(key.path, key.value, key.text) for key in read.keys] == [
        ("p.a", "1", "Both."), ("p.b", "2", "Both."), ("p.c", "3", ""), ("p.d.e", "4", "Inner."),
        ("p.f", "m.C", ""), ("p.f.g", "5", "Own."), ("p.f.h", "6", "Own."),
    ]  # fmt: skip
