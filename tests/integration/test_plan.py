"""The plan of a sweep: what it stores is what its trials do, and `plan=true` runs nothing."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from eyegender.features.plan import stored_activations
from eyegender.features.store import STORE_POOL
from eyegender.features.sweep_plan import PLAN_ATTR, KeptCuts
from eyegender.training.build import build_data, build_model
from hydra_plugins.optuna_study import load_study, study_status
from tests.composing import TINY, tiny_config
from tests.processes import Command
from tests.stores import give_store

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.classifier import Classifier

pytestmark = pytest.mark.integration

STAGES = 19


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    STORE_POOL.clear()
    return tmp_path / "cache"


# ---- one trial


def prepared(depth: int) -> tuple[Any, EyesDataModule, Classifier]:
    cfg = tiny_config(f"model.finetune_depth={depth}", "features.dtype=float32", "run_test=false")
    torch.manual_seed(0)
    data = build_data(cfg)
    data.setup("fit")
    return cfg, data, build_model(cfg, classes=data.samples.classes, weights=1.0).classifier


def follow(depth: int, kept: KeptCuts | None) -> tuple[Any, EyesDataModule, Classifier]:
    cfg, data, module = prepared(depth)
    source = stored_activations(
        cfg,
        module,
        data,
        torch.device("cpu"),
        compute_dtype=lambda _passes: torch.float32,
        check=lambda: None,
        kept=kept,
    )
    return source, data, module


def entries(cache: Path) -> int:
    return len(list((cache / "activations").glob("*/manifest.json")))


@pytest.mark.parametrize("depth", [0, 4, 8])
def test_a_trial_that_starts_before_its_cut_predicts_the_same(depth: int) -> None:
    source, data, module = follow(depth, KeptCuts({9: 0}))
    assert source is not None
    assert module.network.features_start == 9
    data.batch_source = source
    module.eval()
    with torch.inference_mode():
        for batch in data.val_dataloader():
            assert batch.is_features
            expected = module(torch.from_numpy(data.pixels(batch.indices.numpy())))
            found = module.network.from_features(batch.pixels)
            assert torch.allclose(found, expected, atol=1e-5)


def test_the_stages_in_between_stay_frozen() -> None:
    source, data, module = follow(4, KeptCuts({9: 0}))
    data.batch_source = source
    module.train()
    before = {name: tensor.clone() for name, tensor in module.network.stages[9:15].state_dict().items()}
    batch = next(iter(data.train_dataloader()))
    module.network.from_features(batch.pixels).sum().backward()
    assert all(p.grad is None for p in module.network.stages[9:15].parameters())
    assert all(p.grad is not None for p in module.network.stages[15:].parameters())
    after = module.network.stages[9:15].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_what_a_stored_cut_is_computed_from_is_stored_first(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "eyegender"):
        follow(0, KeptCuts({5: 0, 12: 5, 19: 12}))
    assert entries(own_cache) == 2 * 3  # training and validation images
    follow(7, KeptCuts({5: 0, 12: 5, 19: 12}))
    assert entries(own_cache) == 2 * 3
    assert "19 of 19 frozen stages ran once, as planned for the sweep" in caplog.text


def test_what_is_not_kept_is_not_stored(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "eyegender"):
        source, _, module = follow(15, KeptCuts({9: 0}))
    assert source is None
    assert module.network.features_start == module.network.cut == 4
    assert entries(own_cache) == 0
    assert "run in every epoch, because the plan of the sweep stores nothing for them" in caplog.text


def test_what_is_stored_already_is_used_whatever_the_plan_says(own_cache: Path) -> None:
    follow(4, KeptCuts({15: 0}))
    source, _, module = follow(4, KeptCuts({}))
    assert source is not None
    assert module.network.features_start == 15
    assert entries(own_cache) == 2


def test_a_trial_on_a_machine_with_too_little_space_runs_without(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr("eyegender.features.plan.limit_bytes", lambda *_: 1)
    source, _, module = follow(4, KeptCuts({9: 0}))
    assert source is None
    assert module.network.features_start == module.network.cut
    assert entries(own_cache) == 0


# ---- whole sweeps


def command(folder: Path, *overrides: str) -> str:
    give_store(folder / "mlruns")
    process = Command("eyegender.train", "-m", *TINY, *overrides, cwd=folder, session=True)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    return output


GRID = ("+sweeps=grid", "model.finetune_depth=choice(0,2,8,18)", "model.lr=choice(1e-3,2e-3)", "trainer.max_epochs=4")


def test_the_plan_is_what_the_trials_do(tmp_path: Path, own_cache: Path) -> None:
    output = command(tmp_path, *GRID)
    storage = f"sqlite:///{tmp_path}/mlruns/optuna.db"
    plan = load_study(storage, "grid").user_attrs[PLAN_ATTR]
    [pairs] = plan["groups"].values()
    kept = KeptCuts(dict(pairs))
    assert kept.sources  # ten stages in front of depth 8 alone pay for two trials of four epochs
    trials = study_status(storage, "grid").trials
    assert len(trials) == 8
    for trial in trials:
        cut = STAGES - trial.params["model.finetune_depth"]
        start = kept.start(cut)
        [line] = re.findall(r"features: (.*)", (tmp_path / f"multirun/grid/{trial.number}/train.log").read_text())
        if start == 0:
            assert "the plan of the sweep stores nothing" in line
        else:
            assert re.match(rf"{start} (of {cut} )?frozen stages (ran once|do not run)", line), (cut, start, line)
    assert entries(own_cache) == 2 * len(kept.sources)
    # The table comes before the first trial; the points of the grid run by depth.
    assert output.index("plan: 8 trials") < output.index("trial 0")
    depths = [trial.params["model.finetune_depth"] for trial in sorted(trials, key=lambda trial: trial.number)]
    assert depths == sorted(depths, reverse=True)
    table = output[output.index("plan: 8 trials") : output.index("study 'grid'")].splitlines()
    assert max(map(len, table)) <= 80
    rows = {int(line.split()[0]): line.split()[2:4] for line in table if re.match(r"\s+\d+\s", line)}
    for depth in (0, 2, 8, 18):
        start = kept.start(STAGES - depth)
        assert " ".join(rows[depth]).startswith(f"stage {start}" if start else "images")


def test_plan_true_prints_the_plan_and_runs_nothing(tmp_path: Path) -> None:
    output = command(tmp_path, "+sweeps=finetune", "hydra.sweeper.plan=true")
    assert "plan: 12 trials" in output
    assert not (tmp_path / "multirun").exists()
    assert not (tmp_path / "mlruns" / "optuna.db").exists()
    again = command(tmp_path, "+sweeps=finetune", "hydra.sweeper.plan=true")
    # What was measured once is not measured again; the free space on the disk changes.
    space = re.compile(r"at most \S+ GB")
    assert space.search(output)
    assert space.sub("", again) == space.sub("", output)


def test_a_sweep_without_a_choice_has_no_plan(tmp_path: Path) -> None:
    output = command(tmp_path, *GRID, "features=off", "hydra.sweeper.n_trials=1", "trainer.max_epochs=1")
    assert "plan:" not in output
    assert json.dumps(load_study(f"sqlite:///{tmp_path}/mlruns/optuna.db", "grid").user_attrs).count(PLAN_ATTR) == 0


def test_trials_that_cannot_run_are_left_out_of_the_plan(tmp_path: Path) -> None:
    sizes = ("data.size=choice(32,80)", "model=choice(mobilenet_v2,inception_v3)", "hydra.sweeper.enqueue=[]")
    output = command(tmp_path, "+sweeps=finetune", *sizes, "model.finetune_depth=2", "hydra.sweeper.plan=true")
    assert len(re.findall(r"^ +depth", output, re.MULTILINE)) == 3
    assert "data.size=80 model=inception_v3" in output
    assert "data.size=32 model=inception_v3" not in output  # needs 75 pixels


def test_a_mistake_in_every_trial_ends_the_command_in_one_line(tmp_path: Path) -> None:
    give_store(tmp_path / "mlruns")
    process = Command(
        "eyegender.train", "-m", *TINY, "+sweeps=finetune", "model.finetune_depth=2", "model=inception_v3",
        "hydra.sweeper.enqueue=[]", cwd=tmp_path, session=True,
    )  # fmt: skip
    output, errors = process.communicate()
    assert process.returncode != 0
    assert "inception_v3 needs images of at least 75x75 pixels" in output + errors
    assert "Traceback" not in output + errors
