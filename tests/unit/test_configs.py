from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pydantic import BaseModel

from eyegender import sync
from eyegender.core.config_files import config_folder, register_sweeps
from eyegender.core.errors import UserError
from eyegender.core.objectives import check_directions, register_resolvers
from eyegender.core.schema import Monitor, TrainConfig, parse
from eyegender.data.readers import check_source
from eyegender.models.split_metrics import metrics_from_logits
from eyegender.training.build import build_optimization
from tests.composing import TINY, compose_config
from tests.processes import run
from tests.unit.optuna_study.sweeping import multirun

NEEDED = {"data=folder": ["data.root=x"], "data=celeba": ["data.root=x"], "tracking=server": ["tracking.uri=http://x"]}
NEEDED |= {"model=torchvision": ["model.name=resnet18"], "model=timm": ["model.name=resnet18"]}
NEEDED |= {f"experiment={path.stem}": ["data.root=x"] for path in (config_folder("conf") / "experiment").glob("*.yaml")}


def options(group: str) -> list[str]:
    files = sorted((config_folder("conf") / group).glob("*.yaml"))
    return [f"{group}={path.stem}" for path in files if not path.stem.startswith("_")]


GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "features", "tracking", "experiment")


@pytest.mark.parametrize("choice", [o for g in GROUPS for o in options(g)])
def test_every_config_composes_and_passes_the_schema(choice: str) -> None:
    parse(compose_config(choice, *NEEDED.get(choice, [])))


def test_there_are_configs_to_test() -> None:
    assert len(list(config_folder("conf").rglob("*.yaml"))) > 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lr=abc", "model.lr must be a valid number.*got 'abc'"),
        ("model.lr=0", "model.lr must be greater than 0, got 0"),
        ("model.finetune_depth=some", "model.finetune_depth .* got 'some'"),
        ("trainer.precision=16-true", "trainer.precision must be 'auto', .*got '16-true'"),
        ("trainer.max_epochs=0", "trainer.max_epochs must be greater than or equal to 1, got 0"),
        ("data.color=blue", "data.color must be 'gray' or 'rgb', got 'blue'"),
        ("data.split.by=luck", "data.split.by must be .*'person'.*got 'luck'"),
        ("data.split.test=1", "data.split.test must be less than 1, got 1"),
        ("monitor=test/accuracy", "monitor .*got 'test/accuracy'"),  # the test set must never influence selection
        ("monitor=val/acc", "monitor must be .*'val/accuracy'.*got 'val/acc'"),
        ("objectives=[val/acc]", "objectives must be .*'latency_ms'.*got 'val/acc'"),
        ("trainer.max_steps=0", r"trainer.max_steps must be -1 \(no limit\) or at least 1, got 0"),
        ("trainer.max_steps=-2", r"trainer.max_steps must be -1 \(no limit\) or at least 1, got -2"),
        # The worst epoch would be selected as the best one.
        ("mode=min", "mode must be max for monitor=val/accuracy, whose smallest value is its worst, got min"),
        ("seed=-1", "seed must be greater than or equal to 0, got -1"),
    ],
)
def test_a_wrong_value_is_reported_with_its_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(compose_config(override))


def floats(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys of a typed config whose values are real numbers, or null or a word instead."""
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        if float in kinds:
            yield f"{prefix}{name}"
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from floats(kind, f"{prefix}{name}.")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_no_number_may_be_infinite_or_nan(value: str) -> None:
    keys = list(floats(TrainConfig))
    assert {"model.lr", "model.pos_weight", "model.ema", "features.max_gb", "data.augment.flip"} < set(keys)
    with pytest.raises(UserError) as refused:
        parse(compose_config(*(f"{key}={value}" for key in keys)))
    assert [key for key in keys if f"{key} must be a finite number, got {value}" not in str(refused.value)] == []
    with pytest.raises(UserError, match="data.reader.separation must be a finite number"):
        check_source(parse(compose_config(f"data.separation={value}")).data)


def test_the_metrics_that_can_be_monitored_are_those_of_a_run() -> None:
    measured = metrics_from_logits(torch.tensor([0.1, -0.1]), torch.tensor([0, 1])).keys() | {"loss"}
    assert {f"val/{name}" for name in measured} == set(get_args(Monitor))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split.test=0.6", "data.split.val=0.5"], "sum to less than 1, got 0.6 and 0.5"),
        (["data.split.by=file"], "data.split.file must be a file for data.split.by=file, got None"),
        (["data.split.by=file", "data.split.file=nowhere.csv"], "got nowhere.csv; set data.split.file"),
    ],
)
def test_an_impossible_split_is_reported_before_images_are_read(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_source(parse(compose_config(*overrides)).data)


def test_a_missing_value_without_default_is_reported() -> None:
    with pytest.raises(UserError, match=r"tracking.uri must be given .* add tracking.uri=VALUE"):
        parse(compose_config("tracking=server"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.lrr=1"], "did you mean model.lr?"),
        (["data=folder", "data.root=x", "data.n=3"], "it is a key of data=synthetic"),
        (["model=resnet"], "known: inception_v3, mobilenet_v2, timm, torchvision"),
        (["model=torchvision"], "model.name must be given"),
        (["model=torchvision", "model.name=resnet8"], "must be a classification network of torchvision, got 'resnet8'"),
        (["model=timm", "model.name=vit_tiny_patch16_224", "data.size=224"], "cannot be divided into stages: after"),
        (["model.lr"], "overrides must be KEY=VALUE, got 'model.lr'; write model.lr=VALUE"),
        (["trainer.max_epochs=none"], "trainer.max_epochs must be a valid integer"),
        (["data=folder", "data.root=nowhere"], "nowhere"),
        (["model.finetune_depth=20"], "finetune_depth must be 0..19 for mobilenet_v2 or 'all', got 20"),
        (["model=inception_v3", "data.size=64"], "inception_v3 needs images of at least 75x75 pixels, got 64"),
        (["model.weights=nowhere.pth"], "no file nowhere.pth"),
        (["model.head=big"], "unknown head 'big'; known: linear, paper"),
        (["model.backbone._target_=os.system"], "only classes of eyegender are"),
        (["ckpt_path=nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["-m", "+sweeps=finetune", "monitor=val/acc"], "monitor must be"),
        (["-m", "seed=1,2", "objectives=[val/acc]"], "objectives must be"),
        (["learning_rate=0.1"], "Could not override 'learning_rate'; did you mean model.lr?"),
        (["hydra.sweeper.ntrials=3"], "did you mean hydra.sweeper.n_trials?"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    few = () if "data=folder" in arguments else ("data.n=60",)
    done = run("eyegender.train", *arguments, *few)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert not Path("mlruns").exists()  # nothing half-written
    assert not Path("multirun").exists()  # nothing started


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    with pytest.raises(SystemExit) as ended:
        sync.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "eyegender: eyegender runs on Linux and macOS, got Windows; run it in WSL\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--cfg", "job"], ["model.lrr=1"], ["seed=x"], ["data=folder", "data.root=nowhere"]],
)
def test_a_command_that_builds_no_network_does_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['eyegender.train', *{arguments!r}]\n"
        "try:\n    runpy.run_module('eyegender.train', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'pytorch_lightning', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("+sweeps=finetune", "a sweep must be started with -m, got +sweeps=finetune without it; add -m"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib means something in a sweep only"),
        ("hydra/sweeper=optuna_study", "hydra/sweeper=optuna_study means something in a sweep only"),
        ("hydra.sweep.dir=x", "hydra.sweep.dir=x means something in a sweep only, got a single run; add -m, or remove"),
    ],
)
def test_a_sweep_without_its_flag_is_refused(argument: str, message: str) -> None:
    done = run("eyegender.train", "data.n=60", argument)
    assert done.returncode == 2
    assert done.stderr.startswith(f"eyegender: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("mlruns").exists()


def sweeper_of(*overrides: str) -> DictConfig:
    register_sweeps()
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(
    ("overrides", "direction"),
    [
        (["+sweeps=finetune"], "maximize"),
        (["+sweeps=finetune", "monitor=val/loss", "mode=min"], "minimize"),
        (["+sweeps=finetune", "monitor=val/loss"], "minimize"),
        (["+sweeps=backbones", "monitor=val/calibration_error"], "minimize"),
        (["+sweeps=grid", "monitor=val/auroc"], "maximize"),
        (["+sweeps=pareto"], ["maximize", "minimize"]),
        (["+sweeps=pareto", "objectives=[val/loss,val/f1,parameters]"], ["minimize", "maximize", "minimize"]),
        (["+sweeps=finetune", "objectives=[val/f1]"], ["maximize"]),
    ],
)
def test_the_direction_of_a_sweep_follows_its_metrics(overrides: list[str], direction: str | list[str]) -> None:
    config = sweeper_of(*overrides)
    assert config.hydra.sweeper.direction == direction
    check_directions(config)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["+sweeps=finetune", "hydra.sweeper.direction=minimize"], "maximize"),
        (["+sweeps=finetune", "monitor=val/loss", "hydra.sweeper.direction=maximize"], "minimize"),
        (["hydra/sweeper=optuna_study"], "maximize"),  # its default is to minimize
        (["+sweeps=pareto", "hydra.sweeper.direction=[maximize,maximize]"], r"\[maximize,minimize\]"),
        (["+sweeps=pareto", "hydra.sweeper.direction=maximize"], r"\[maximize,minimize\]"),
    ],
)
def test_a_direction_that_looks_for_the_worst_run_is_refused(overrides: list[str], wanted: str) -> None:
    with pytest.raises(UserError, match=f"hydra.sweeper.direction must be {wanted} for .*, got .*; set"):
        check_directions(sweeper_of(*overrides))


@pytest.mark.parametrize(
    "arguments",
    [
        ["hydra.sweeper.direction=minimize"],
        ["model.dropout=2"],
        ["model.weights=nowhere.pth"],
        ["data=folder", "data.root=nowhere"],
        ["model=torchvision", "model.name=choice(resnet18,resnet8)"],
    ],
)
def test_a_sweep_of_wrong_values_is_refused_before_its_study_is_opened(arguments: list[str]) -> None:
    done = run("eyegender.train", "-m", "+sweeps=finetune", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("eyegender: ")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("mlruns").exists()


@pytest.mark.parametrize("path", sorted(config_folder("sweeps").glob("[!_]*.yaml")), ids=lambda path: path.stem)
def test_no_sweep_evaluates_the_test_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.setenv("STUDY_URL", "sqlite:///study.db")
    cfg = compose_config(f"+sweeps={path.stem}", "data=folder", "data.root=x")
    assert parse(cfg).run_test is False


SWEEP_OF_OPTIMIZERS = """\
# @package _global_
hydra:
  sweeper:
    params:
      optimizer: choice(adamw, sgd)
      +optimizer.maximize: choice(false)
      model.lr:
        optimizer=sgd: interval(0.1, 1)
        else: interval(1e-4, 1e-3)
"""


def test_an_optimizer_is_swept_with_its_own_range_and_a_new_argument_needs_no_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = []

    def task(cfg):
        optimization = build_optimization(parse(cfg))
        built.append((optimization.optimizer, cfg.model.lr, optimization.arguments))
        return float(cfg.model.lr)

    register_resolvers()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/sweep.yaml").write_text(SWEEP_OF_OPTIMIZERS)
    multirun(task, *TINY, "+mine=sweep", f"hydra.searchpath=[file://{tmp_path}]", "hydra/sweeper=optuna_study",
             "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=6",
             "hydra.sweep.dir=out", "hydra.sweeper.direction=maximize",
             config_dir=config_folder("conf").resolve(), name="train", version_base="1.3")  # fmt: skip
    assert {optimizer for optimizer, _, _ in built} == {torch.optim.AdamW, torch.optim.SGD}
    assert all((rate >= 0.1) == (optimizer is torch.optim.SGD) for optimizer, rate, _ in built)
    assert all(arguments["maximize"] is False for _, _, arguments in built)
