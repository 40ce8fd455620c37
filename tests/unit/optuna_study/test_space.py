from collections.abc import Mapping
from typing import Any

import optuna
import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._optuna import random_parameters_message
from hydra_plugins.optuna_study._search_space._space import Space, build_space

CONFIG = {"model": "inception_v3", "data": "folder"}

BACKBONES = {
    "model": "choice(inception_v3, mobilenet_v2)",
    "model.finetune_depth": {"model=inception_v3": "range(0, 17)", "model=mobilenet_v2": "range(0, 20)"},
    "model.lr": "tag(log, interval(1e-5, 1e-2))",
}


def space(params: Mapping[str, Any], *arguments: str) -> Space:
    return build_space(params, list(arguments), CONFIG.get, None)  # type: ignore[arg-type]


def sampled(built: Space, number: int = 60) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [built.suggest(study.ask()).params for _ in range(number)]


def test_a_conditional_range_follows_the_swept_key_it_names():
    depths: dict[str, set[int]] = {"inception_v3": set(), "mobilenet_v2": set()}
    for one in sampled(space(BACKBONES), 400):
        depths[one["model"]].add(one["model.finetune_depth"])
    assert depths == {"inception_v3": set(range(17)), "mobilenet_v2": set(range(20))}


def test_each_branch_is_a_separate_parameter_to_the_sampler():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    names = set()
    for _ in range(20):
        trial = study.ask()
        space(BACKBONES).suggest(trial)
        names |= set(trial.params)
    assert names == {
        "model",
        "model.lr",
        "model.finetune_depth (model=inception_v3)",
        "model.finetune_depth (model=mobilenet_v2)",
    }


def test_a_condition_on_a_fixed_key_is_decided_at_once():
    built = space(BACKBONES, "model=mobilenet_v2")
    assert {one["model.finetune_depth"] for one in sampled(built, 400)} == set(range(20))
    assert built.fixed == ("model=mobilenet_v2",)
    assert [branch.name for p in built.parameters for branch in p.branches] == ["model.finetune_depth", "model.lr"]


def test_a_condition_on_the_config_is_decided_at_once():
    built = space({"x": {"data=celeba": "range(0, 2)", "else": "choice(7, 8)"}})
    assert {one["x"] for one in sampled(built)} == {7, 8}


def test_a_key_without_a_condition_that_holds_is_not_set():
    built = space({"model": "choice(a, b)", "x": {"model=a": "range(0, 3)"}})
    for one in sampled(built):
        assert ("x" in one) == (one["model"] == "a")


def test_conditions_may_be_nested_joined_and_written_in_any_order():
    built = space(
        {
            "momentum": {"optimizer=sgd & big=true": "interval(0, 1)"},
            "optimizer": {"model=a": "choice(sgd, adam)", "else": "adam"},
            "big": "choice(true, false)",
            "model": "choice(a, b)",
        }
    )
    seen = set()
    for one in sampled(built, 200):
        assert ("momentum" in one) == (one["optimizer"] == "sgd" and one["big"] is True)
        assert one["model"] == "a" or one["optimizer"] == "adam"
        seen.add("momentum" in one)
    assert seen == {True, False}


def test_one_parameter_may_set_several_keys():
    built = space({"head.lr, body.lr": "choice(0.1, 0.2)"})
    study = optuna.create_study()
    one = built.suggest(study.ask())
    assert one.params["head.lr"] == one.params["body.lr"]
    assert [line.partition("=")[0] for line in one.overrides] == ["head.lr", "body.lr"]


def test_the_command_line_replaces_fixes_and_adds():
    built = space({"a": "range(0, 3)", "b": "range(0, 3)"}, "a=range(5, 7)", "b=1", "+c=choice(x, y)", "~d")
    assert {one["a"] for one in sampled(built)} == {5, 6}
    assert set(built.fixed) == {"b=1", "~d"}
    assert {one["c"] for one in sampled(built)} == {"x", "y"}


def test_examples_show_both_ends_and_every_choice():
    lines = {line for example in space(BACKBONES).examples() for line in example}
    assert {"model=inception_v3", "model=mobilenet_v2", "model.finetune_depth=16"} <= lines
    assert {"model.lr=1e-05", "model.lr=0.01"} <= lines


def test_the_size_of_a_finite_space_counts_conditions():
    assert space({**BACKBONES, "model.lr": "choice(1, 2)"}).size() == (17 + 20) * 2
    assert space(BACKBONES).size() is None


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"x": {"y=1": "range(0,2)"}}, "names 'y', which is neither swept nor in the config"),
        ({"x": {"model": "range(0,2)"}}, "KEY=VALUE.*got 'model'"),
        ({"x": {"y=1": "range(0,2)"}, "y": {"x=1": "range(0,2)"}}, "circle"),
        ({"x": "range(0,"}, "cannot be read"),
        ({"x": "range(2,1)"}, "at least one value"),
    ],
)
def test_a_space_that_cannot_be_understood_is_refused(params, rule):
    with pytest.raises(StudyError, match=rule):
        space(params)


def test_the_grid_sampler_refuses_what_it_cannot_list():
    with pytest.raises(StudyError, match="use range or choice"):
        space({"x": "interval(0,1)"}).grid()
    with pytest.raises(StudyError, match="brute_force"):
        space(BACKBONES).grid()


def test_samplers_without_conditions_or_choices_say_which_parameters_they_sample_at_random() -> None:
    def said(sampler: str, built: Space, **more: Any) -> str | None:
        return random_parameters_message({"_target_": f"optuna.samplers.{sampler}", **more}, built)

    branches = "model.finetune_depth (model=inception_v3), model.finetune_depth (model=mobilenet_v2)"
    for sampler in ("GPSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler"):
        line = said(sampler, space(BACKBONES))
        assert line is not None
        assert line.startswith(f"{sampler} samples conditional parameters at random: {branches}; ")
        assert "hydra/sweeper/sampler=tpe or brute_force" in line
    line = said("CmaEsSampler", space(BACKBONES))
    assert line is not None
    assert f"samples conditional and categorical parameters at random: {branches}, model;" in line
    for sampler in ("TPESampler", "RandomSampler", "BruteForceSampler"):
        assert said(sampler, space(BACKBONES)) is None
    # A parameter with one branch left is not conditional any more.
    assert said("GPSampler", space(BACKBONES, "model=mobilenet_v2")) is None
    assert said("GPSampler", space(BACKBONES), independent_sampler={"_target_": "optuna.samplers.TPESampler"}) is None
