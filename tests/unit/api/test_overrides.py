"""Overrides as Python values, and the values that Hydra reads from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import eyegender
from eyegender.api.overrides import as_lines
from eyegender.core.command_line.dict_values import as_interpolation, readable, settle, shown
from eyegender.core.objectives import register_resolvers

VALUES = [
    None, True, False, 0, -3, 1e-5, 2.0, math.inf, "", "plain", "null", "true", "3", "1e-5", "a b", "it's", "a,b",
    "choice(1,2)", "[1]", "{a: 1}", "C:\\pictures\\", "\\'", "ends\\", "é", "#x", "k=v", "a: b", "'quoted'", '"x"',
    [1, "a", None], ["a,b", "it's"], {"a": 1, "b": [True, "x y"]}, [], {},
]  # fmt: skip


def parsed(line: str) -> object:
    return OverridesParser.create().parse_override(line).value()


def lines(overrides: object, **options: bool) -> list[str]:
    def composed(_: list[str]) -> None:
        raise AssertionError("only nested dicts need the config")

    return as_lines(overrides, composed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [v for v in VALUES if not isinstance(v, dict)], ids=repr)
def test_hydra_reads_the_value_that_was_given(value: object) -> None:
    (line,) = lines({"key": value})
    assert parsed(line) == value
    assert type(parsed(line)) is type(value)


@pytest.mark.parametrize("value", [{"a": 1, "b": [True, "x y"]}, {"male eyes": None, "a:b": 1, "10": 2}], ids=repr)
def test_a_dict_within_a_list_is_a_value(value: object) -> None:
    (line,) = lines({"key": [value]})
    (read,) = parsed(line)  # type: ignore[misc]
    assert {str(key): inner for key, inner in read.items()} == value


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12))
def test_any_printable_text_stays_as_it_is(text: str) -> None:
    if "${" in text:
        return  # refers to another key, as in a config
    (line,) = lines({"key": text})
    assert parsed(line) == text


def test_paths_and_numbers_of_numpy() -> None:
    assert lines({"root": Path("a/b"), "n": np.int64(3), "lr": np.float32(0.5)}) == ["root=a/b", "n=3", "lr=0.5"]


def test_a_range_is_one_only_in_a_sweep() -> None:
    space = "tag(log, interval(1e-4, 1e-2))"
    assert lines({"lr": space}, ranges=True) == [f"lr={space}"]
    assert parsed(lines({"lr": space})[0]) == space


def test_lines_stay_as_they_are() -> None:
    assert lines(["model.lr=1", "+sweeps=finetune"]) == ["model.lr=1", "+sweeps=finetune"]
    assert lines(None) == []


def test_nested_dotted_and_mixed_dicts_are_the_same() -> None:
    flat = eyegender.compose({"trainer.max_epochs": 3, "trainer.batch_size": 8, "model": "inception_v3"})
    nested = eyegender.compose({"trainer": {"max_epochs": 3, "batch_size": 8}, "model": "inception_v3"})
    assert flat == nested
    assert (nested.trainer.max_epochs, nested.model.name) == (3, "inception_v3")
    deep = eyegender.compose({"data": {"augment": {"flip": 0.0}, "split.test": 0.3}})
    assert (deep.data.augment.flip, deep.data.split.test) == (0.0, 0.3)


def test_a_dict_is_a_value_where_the_config_has_one() -> None:
    cfg = eyegender.compose({"data": {"subset": {"female": 30, "male": 20}}})
    assert dict(cfg.data.subset) == {"female": 30, "male": 20}
    assert dict(eyegender.compose({"data.subset": {"female": 30, "male": 20}}).data.subset) == cfg.data.subset


NAMES = ["Žába", "it's", 'the "big" one', "back\\slash", "C:\\", "${seed}", "猫 犬", "a: b, {c}"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_key_of_a_dict(name: str) -> None:
    plain = {name: 30, "male": 20}
    for overrides in ({"data.subset": plain}, {"data": {"subset": plain}}):
        cfg = eyegender.compose(overrides)
        assert OmegaConf.to_container(cfg.data.subset) == plain
        assert OmegaConf.to_container(cfg, resolve=False)["data"]["subset"] == plain  # what a run stores
    assert parsed(lines({"key": [{name: 1}]})[0]) is not None
    line = f"data.subset={as_interpolation(plain)}"
    assert readable(shown(line)) == line


@pytest.mark.parametrize("written", ["{'Žába': 3}", "{Žába: 3}", "{Žába:3}", '{"Žába": 3}', "{'Žába':3}"])
def test_a_command_reads_such_keys_with_and_without_quotes(written: str) -> None:
    assert dict(eyegender.compose([f"data.subset={written}"]).data.subset) == {"Žába": 3}


@given(
    st.dictionaries(
        st.text(max_size=6),
        st.integers() | st.text(st.characters(exclude_characters="$"), max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_any_plain_dict_comes_back(value: dict[str, object]) -> None:
    register_resolvers()
    config = OmegaConf.create({"key": as_interpolation(value), "inner": [as_interpolation(value)]})
    settle(config)
    assert OmegaConf.to_container(config, resolve=False) == {"key": value, "inner": [value]}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.lr=1", r"overrides must be a list of strings key=value, or a dict, got 'model.lr=1'"),
        ([1], r"got 1 in the list"),
        ({1: 2}, r"keys of overrides must be texts, got 1"),
        ({"seed": object()}, r"seed must be None, bool, int, .* got object; convert it"),
        ({"model.weights": "a\nb"}, r"model.weights must be printable text"),
        ({"data.subset": {"ž": object()}}, r"data.subset must be None, bool, int, .* got object; convert it"),
        ([""], r"overrides must be KEY=VALUE, got ''; remove it"),
        (["''"], "got \"''\"; correct or remove it"),
        (["seed"], r"overrides must be KEY=VALUE, got 'seed'; write seed=VALUE"),
        (
            ["model.weights=a{b"],
            r"as Hydra reads them, got 'model.weights=a\{b'; close brackets .*model.weights=\"'TEXT'\"",
        ),
        (["seed=1,2"], r"seed=.*call eyegender.sweep"),
        (["--multirun"], r"overrides must be key=value, got the flag --multirun"),
    ],
)
def test_what_is_no_override_is_refused(overrides: object, message: str) -> None:
    with pytest.raises(eyegender.UserError, match=message):
        eyegender.compose(overrides)  # type: ignore[arg-type]
