"""Old names of config keys still work: on command lines, in files, in checkpoints and in studies."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf

from eyegender.core import config_keys
from eyegender.core.config_keys import RENAMED, rename_keys, rename_override
from eyegender.core.errors import UserError
from eyegender.core.schema import parse
from eyegender.training.hydra_callbacks import RenameKeys
from eyegender.training.resume import check_config
from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._budget import DEFINITION
from tests.composing import TINY, compose_config, tiny_config
from tests.unit.optuna_study.sweeping import multirun

RUN = Path("run/checkpoints/last.ckpt")
# Keys that an earlier version wrote in the section of the model.
EARLIER = {"weight_decay": 0.05, "schedule": "onecycle", "warmup": 0.25}


def loose() -> DictConfig:
    """A composed config to which keys can be added, as the files of users do."""
    config = compose_config(*TINY)
    OmegaConf.set_struct(config, False)
    return config


@pytest.fixture(autouse=True)
def _warns_again() -> None:
    config_keys._warn_renamed.cache_clear()


@pytest.mark.parametrize(
    ("typed", "now"),
    [
        ("model.weight_decay=0.1", "optimizer.weight_decay=0.1"),
        ("model.schedule=cosine,constant", "scheduler=cosine,constant"),
        ("++model.warmup=interval(0.1,0.3)", "++scheduler.warmup=interval(0.1,0.3)"),
        ("~model.warmup", "~scheduler.warmup"),
        ("part=test", "split=test"),
        ("model.lr=model.schedule", "model.lr=model.schedule"),
        ("data.root=model.schedule=x", "data.root=model.schedule=x"),
        ("+model.weight_decay_of_mine=1", "+model.weight_decay_of_mine=1"),
    ],
)
def test_a_command_line_gets_the_new_names(typed: str, now: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eyegender"):
        assert [rename_override(argument) for argument in (typed, typed, "-m")] == [now, now, "-m"]
    assert len(caplog.messages) == (typed != now)  # once, even if it is given twice


@pytest.mark.parametrize(
    ("override", "warnings"),
    [
        ("experiment=paper_honest", 1),
        ("+experiment=paper,paper_honest", 1),
        ("experiment=choice(paper_honest, paper)", 1),
        ("experiment=paper_grouped", 0),
        ("tracking.run_name=paper_honest", 0),
    ],
)
def test_the_former_name_of_an_experiment_is_kept_with_one_warning(
    override: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "eyegender"):
        assert [rename_override(argument) for argument in (override, override)] == [override, override]
    assert len(caplog.messages) == warnings
    if warnings:
        assert caplog.messages[0].startswith("experiment=paper_honest is now called experiment=paper_grouped;")


def test_the_former_name_of_an_experiment_composes_the_same_config() -> None:
    former, new = (compose_config(f"experiment={name}", "data.root=.") for name in ("paper_honest", "paper_grouped"))
    assert former == new


def test_a_config_with_old_keys_means_what_it_meant() -> None:
    composed_now = loose()
    for name in ("optimizer", "scheduler"):
        del composed_now[name]
    old = OmegaConf.merge(
        composed_now, {"model": {**EARLIER, "weight_decay": 0.2, "schedule": "cosine", "warmup": 0.1}}
    )
    config = parse(old)
    assert config.optimizer.target == "torch.optim.AdamW"
    assert config.optimizer.arguments == {"weight_decay": 0.2}
    assert config.scheduler.target == "torch.optim.lr_scheduler.CosineAnnealingLR"
    assert config.scheduler.warmup == 0.1
    assert not {"weight_decay", "schedule", "warmup"} & set(config.written["model"])


def test_a_user_file_with_an_old_key_is_recorded_with_the_new_one() -> None:
    config = OmegaConf.merge(loose(), {"model": {"weight_decay": 0.2, "schedule": "constant"}})
    RenameKeys().on_run_start(config)
    assert config.optimizer.weight_decay == 0.2
    assert config.scheduler._target_ == "torch.optim.lr_scheduler.ConstantLR"
    assert not {"weight_decay", "schedule"} & set(config.model)
    parse(config)


def test_the_params_of_a_sweep_get_the_new_names_but_a_file_with_an_old_key_is_refused() -> None:
    config = loose()
    config.hydra = {"sweeper": {"params": {"model.weight_decay": "interval(0.01,0.1)", "model.lr": "choice(1e-3)"}}}
    RenameKeys().on_multirun_start(config)
    assert dict(config.hydra.sweeper.params) == {
        "optimizer.weight_decay": "interval(0.01,0.1)", "model.lr": "choice(1e-3)",
    }  # fmt: skip
    with pytest.raises(SystemExit) as caught:
        RenameKeys().on_multirun_start(OmegaConf.merge(config, {"model": {"schedule": "cosine"}}))
    refused = str(caught.value.__cause__)  # which the command prints
    assert "sets model.schedule, which is now called scheduler; rename it there" in refused


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_a_checkpoint_of_an_earlier_version_resumes_with_the_same_optimization(schedule: str) -> None:
    now = tiny_config(f"scheduler={schedule}")
    config = dict(now.written)
    config["model"] = {**config["model"], **EARLIER, "schedule": schedule}
    saved = {name: section for name, section in config.items() if name not in {"optimizer", "scheduler", "tracking"}}
    loops = {
        "epoch_progress": {"current": {"started": 1, "processed": 1}},
        "epoch_loop.batch_progress": {"current": {"processed": 3}, "is_last_batch": True},
    }
    checkpoint = {"config": saved, "loops": {"fit_loop": loops}, "global_step": 3}
    assert check_config(checkpoint, now, RUN) == []
    other = tiny_config("scheduler=cosine" if schedule != "cosine" else "scheduler=constant")
    with pytest.raises(UserError, match=r"was trained with scheduler\._target_="):
        check_config(checkpoint, other, RUN)


def test_a_config_without_old_keys_does_not_change() -> None:
    config = {"model": {"lr": 1}, "optimizer": {}}
    assert rename_keys(config) is config
    assert rename_keys(None) is None


def test_a_study_with_old_names_continues(tmp_path: Path) -> None:
    def task(cfg):
        return float(cfg.x)

    few = ("hydra.sweeper.n_trials=1", "~hydra.sweeper.params.y", "mode=slow")
    multirun(task, *few)
    storage = optuna.storages.RDBStorage("sqlite:///study.db")
    study_id = storage.get_study_id_from_name("toy")
    stored = storage.get_study_system_attrs(study_id)[DEFINITION]
    old = {
        **stored,
        "space": {"was_x": stored["space"]["x"]},
        "fixed": [line.replace("mode", "was_mode") for line in stored["fixed"]],
    }
    storage.set_study_system_attr(study_id, DEFINITION, old)
    more = ("hydra.sweeper.n_trials=2", *few[1:])
    with pytest.raises(StudyError, match="'was_x' was swept"):
        multirun(task, *more)
    multirun(task, *more, "hydra.sweeper.renamed={was_x: x, was_mode: mode}")
    assert [trial.state.name for trial in optuna.load_study(study_name="toy", storage=storage).trials] == [
        "COMPLETE", "COMPLETE",
    ]  # fmt: skip


def test_our_sweeps_declare_all_old_names() -> None:
    sweep = OmegaConf.load(Path(__file__).parents[3] / "sweeps/_study.yaml")
    assert dict(sweep.hydra.sweeper.renamed) == RENAMED
