from __future__ import annotations

from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from eyegender.features.plan import expected_reuse
from eyegender.features.sweep_plan import REUSE_KEYS
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
    hydra = OmegaConf.create({"sweeper": {"n_trials": 24}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)


@pytest.mark.usefixtures("sweep_of_24")
@pytest.mark.parametrize(
    ("given", "trials"),
    [
        (None, 1),
        (trial(0, model__lr=0.1), 24),
        (trial(20, model__lr=0.1, trainer__batch_size=8), 4),
        (trial(30, model__lr=0.1), 1),  # a requeued trial comes after the last one
        (trial(0, model__lr=0.1, model__finetune_depth=2), 1),
        (trial(0, data__size=64), 1),
    ],
)
def test_trials_that_read_the_same_activations(given: TrialHandle | None, trials: int) -> None:
    assert expected_reuse(given) == trials


def test_the_keys_exist() -> None:
    cfg = compose_config()
    assert all(OmegaConf.select(cfg, key, throw_on_missing=True, default="none") != "none" for key in REUSE_KEYS)
