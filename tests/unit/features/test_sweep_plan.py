"""The plan as the trials read it."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from eyegender.features.sweep_plan import (
    PLAN_ATTR,
    REUSE_KEYS,
    KeptCuts,
    encode_plan,
    group_of,
    keeps_activations,
    kept_cuts,
)
from tests.composing import compose_config, tiny_config


def test_a_run_starts_from_the_last_stored_cut_before_its_own() -> None:
    kept = KeptCuts({3: 0, 11: 3, 17: 0})
    assert [kept.start(cut) for cut in (0, 2, 3, 10, 11, 19)] == [0, 0, 3, 3, 11, 17]
    assert [kept.source(cut) for cut in (3, 11, 17)] == [0, 3, 0]


@pytest.mark.parametrize(
    "override",
    [
        "model.finetune_depth=3",
        "model.lr=0.5",
        "optimizer=sgd",
        "scheduler=cosine",
        "trainer.batch_size=8",
        "trainer.max_epochs=9",
        "features.max_gb=3",
        "tracking.experiment=other",
        "monitor=val/loss",
    ],
)
def test_runs_that_can_share_activations_have_the_same_group(override: str) -> None:
    assert group_of(tiny_config(override)) == group_of(tiny_config())


@pytest.mark.parametrize(
    "override",
    [
        "data.size=64",
        "model=inception_v3",
        "model.weights=auto",
        "model.head=paper",
        "seed=1",
        "data.split.seed=1",
        "data.augment.flip=0",
        "features.views=2",
        "features.dtype=float32",
        "trainer.precision=bf16-mixed",
        "run_test=false",
    ],
)
def test_runs_that_cannot_have_different_groups(override: str) -> None:
    assert group_of(tiny_config(override)) != group_of(tiny_config())


def test_keys_that_keep_the_activations_leave_the_group_as_it_is() -> None:
    values = {"model.ema": 0.9, "model.head_lr": 0.1, "trainer.gradient_clip": 1.0, "model.pos_weight": 2.0}
    for key in REUSE_KEYS:
        assert keeps_activations(key)
        assert OmegaConf.select(compose_config(), key, default="none") != "none"
        override = f"{key}={values.get(key, 0.25 if key.startswith('model') else 3)}"
        assert group_of(tiny_config(override)) == group_of(tiny_config())
    assert keeps_activations("optimizer.weight_decay")
    assert not keeps_activations("model.finetune_depth")


def test_the_plan_survives_the_storage() -> None:
    cfg = tiny_config()
    attrs = {PLAN_ATTR: json.loads(json.dumps(encode_plan({group_of(cfg): {3: 0, 11: 3}})))}
    assert kept_cuts(attrs, cfg) == KeptCuts({3: 0, 11: 3})
    assert kept_cuts(attrs, tiny_config("data.size=64")) is None
    assert kept_cuts(attrs, tiny_config("features=off")) is None
    assert kept_cuts(attrs, tiny_config("features=on")) is None


@pytest.mark.parametrize("attrs", [{}, {PLAN_ATTR: None}, {PLAN_ATTR: {"version": 2, "groups": {}}}, {PLAN_ATTR: "x"}])
def test_without_a_plan_that_it_knows_a_trial_decides_alone(attrs: dict[str, object]) -> None:
    assert kept_cuts(attrs, tiny_config()) is None
