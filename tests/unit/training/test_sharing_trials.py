from __future__ import annotations

from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from eyegender.training.sharing_trials import HARMLESS, sharing_trials
from hydra_plugins.optuna_study import TrialHandle
from tests.composing import compose_config


def trial(number: int, **params: Any) -> TrialHandle:
    swept = {name.replace("__", "."): value for name, value in params.items()}
    return TrialHandle(
        number=number, study_name="s", params=swept, attempt=0, directory=".", user_attrs={}, study_attrs={},
        reported={},
    )  # fmt: skip


@pytest.fixture
def sweep_of_24(monkeypatch: pytest.MonkeyPatch) -> None:
    told = OmegaConf.create({"sweeper": {"n_trials": 24}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: told)


@pytest.mark.usefixtures("sweep_of_24")
@pytest.mark.parametrize(
    ("given", "trials"),
    [
        (None, 1),
        (trial(0, model__lr=0.1), 24),
        (trial(20, model__lr=0.1, trainer__batch_size=8), 4),
        (trial(30, model__lr=0.1), 1),  # a trial that was put back in the queue comes after the last
        (trial(0, model__lr=0.1, model__finetune_depth=2), 1),
        (trial(0, data__size=64), 1),
    ],
)
def test_trials_that_share_what_is_stored(given: TrialHandle | None, trials: int) -> None:
    assert sharing_trials(given) == trials


def test_the_harmless_keys_exist() -> None:
    cfg = compose_config()
    assert all(OmegaConf.select(cfg, key, throw_on_missing=True, default="none") != "none" for key in HARMLESS)
