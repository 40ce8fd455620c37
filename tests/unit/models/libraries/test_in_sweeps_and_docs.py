"""Networks of libraries as the docs and `sweeps/backbones.yaml` show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from eyegender.core.command import config_folder
from eyegender.core.objectives import register_resolvers
from eyegender.core.schema import parse
from eyegender.models.libraries.timm_backbone import TimmBackbone
from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone
from eyegender.training.build import backbone_class
from tests.composing import TINY
from tests.unit.docs.pages import ROOT
from tests.unit.models.libraries.test_networks import built
from tests.unit.optuna_study.sweeping import multirun

LIBRARIES = {"torchvision": TorchvisionBackbone, "timm": TimmBackbone}
SWEEP = ROOT / "sweeps/backbones.yaml"


def example_params() -> dict[str, Any]:
    """The example in the comment of the sweep, with what it says in place of what the sweep has."""
    _, _, comment = SWEEP.read_text().partition("in place of the lines above:\n")
    lines = [line.strip().removeprefix("# ") for line in comment.splitlines() if line.strip()]
    params: dict[str, Any] = yaml.safe_load("\n".join(lines))
    return params


def test_the_example_of_the_page_is_that_of_the_sweep() -> None:
    page = (ROOT / "docs/sweeps.md").read_text()
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "model=timm" in block]
    params = yaml.safe_load(shown)["hydra"]["sweeper"]["params"]
    lr = yaml.safe_load(SWEEP.read_text())["hydra"]["sweeper"]["params"]["model.lr"]
    assert params | {"model.lr": lr} == example_params()


def test_any_list_of_networks_is_one_conditional_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn: list[tuple[str, str, int]] = []

    def task(cfg: DictConfig) -> float:
        parsed = parse(cfg)
        depth = parsed.model.finetune_depth
        assert isinstance(depth, int)
        drawn.append((backbone_class(parsed.model).__name__, parsed.model.name, depth))
        return 0.0

    register_resolvers()
    (tmp_path / "mine").mkdir()
    sweep = {"hydra": {"sweeper": {"params": example_params()}}}
    (tmp_path / "mine/sweep.yaml").write_text("# @package _global_\n" + yaml.safe_dump(sweep))
    multirun(task, *TINY, "+mine=sweep", f"hydra.searchpath=[file://{tmp_path}]", "hydra/sweeper=optuna_study",
             "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=24",
             "hydra.sweep.dir=out", "hydra.sweeper.direction=maximize",
             config_dir=config_folder("conf").resolve(), name="train", version_base="1.3")  # fmt: skip
    assert {(kind, name) for kind, name, _ in drawn} == {
        ("MobileNetV2", "mobilenet_v2"),
        ("TorchvisionBackbone", "resnet18"),
        ("TorchvisionBackbone", "resnet50"),
        ("TimmBackbone", "convnext_atto"),
    }
    assert len({depth for _, name, depth in drawn if name == "mobilenet_v2"}) > 3


def test_the_depths_of_the_example_are_those_of_the_networks() -> None:
    params = example_params()
    libraries = {
        name: library
        for library in LIBRARIES
        for name in re.findall(r"\w+", params["model.name"][f"model={library}"])[1:]
    }
    for name, library in libraries.items():
        stages = len(built(LIBRARIES[library], name).stages)
        assert params["model.finetune_depth"][f"model.name={name}"] == f"range(0, {stages + 1})"


def test_the_table_of_the_page_is_what_the_networks_have() -> None:
    page = (ROOT / "docs/models.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert {library for library, *_ in rows} == set(LIBRARIES)
    for library, name, *numbers in rows:
        backbone = built(LIBRARIES[library], name)
        assert [len(backbone.stages), backbone.channels, backbone.default_size] == list(map(int, numbers)), name
