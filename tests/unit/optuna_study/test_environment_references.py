import logging
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from eyegender.core.secrets import RedactingFilter
from hydra_plugins.optuna_study import move_secrets_to_environment, override_without_secrets, redact, register_secrets
from hydra_plugins.optuna_study._redaction import without_secrets


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr("hydra_plugins.optuna_study._redaction._registered", set())


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("tracking.uri=http://me:pw12@h:5000", "http://me:pw12@h:5000"),
        ("tracking.uri='http://me:p,w1@h'", "http://me:p,w1@h"),
        (r"tracking.uri=http://me:p\,w2@h", "http://me:p,w2@h"),
        ("tracking.uri=postgresql://h/db?user=a&password=xyz9", "postgresql://h/db?user=a&password=xyz9"),
        ("+db.password=abcd", "abcd"),
        ("a.token='x y'", "x y"),
    ],
)
def test_an_override_means_the_same_without_its_password(override, value):
    line = override_without_secrets(override)
    config = OmegaConf.create({"value": line.partition("=")[2].strip("'")})
    assert "${oc.env:STUDY_SECRET_" in line
    assert config.value == value
    assert override_without_secrets(override) == line  # the same command is the same study


def test_a_password_inside_a_mapping_leaves_the_command_line_too():
    line = override_without_secrets("+x={a: {password: on3, n: 1}, b: {api_key: 'tw o'}, c: null}")
    assert not re.search("on3|tw o", line)
    config = OmegaConf.create(OverridesParser.create().parse_override(line).value())
    assert OmegaConf.to_container(config, resolve=True) == {
        "a": {"password": "on3", "n": 1},
        "b": {"api_key": "tw o"},
        "c": None,
    }


@pytest.mark.parametrize("override", ["x={token: ${oc.env:HOME}}", "x={password: null}", "x={max_tokens: 5}"])
def test_mappings_without_a_password_stay_as_they_are(override):
    assert override_without_secrets(override) == override


@pytest.mark.parametrize(
    "override",
    ["model.lr=choice(1,2)", "m.cls_token=true", "x=http://me:${oc.env:PW}@h", "x=http://a:80/x,http://me@b", "~data"],
)
def test_other_overrides_stay_as_they_are(override):
    assert override_without_secrets(override) == override


def test_a_config_is_written_without_its_passwords():
    config = OmegaConf.create(
        {"a": ["http://u:l1st@h"], "b": {"api_key": "k3y5", "n": None, "m": "???"}, "c": "${b.n}"}
    )
    before = OmegaConf.to_container(config, resolve=True)
    OmegaConf.set_readonly(config, value=True)
    move_secrets_to_environment(config)
    written = OmegaConf.to_yaml(config)
    assert not re.search("l1st|k3y5", written)
    assert OmegaConf.to_container(config, resolve=True) == before
    assert redact("l1st and k3y5") == "*** and ***"
    assert "l1st" not in str(without_secrets([{"uri": "http://u:l1st@h"}]))


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("MY_TOKEN", "t0k3n-value", True),
        ("SOMETHING", "s0m3thing", True),
        ("DATA_ROOT", "eyes-2024", False),
        ("ANYTHING", "/data/eyes", False),
        ("ANYTHING", "12345678", False),
        ("ANYTHING", "short", False),
        ("STORE", "http://me:p4ss@host.example", False),
    ],
)
def test_variables_that_a_config_names(monkeypatch, name, value, hidden):
    monkeypatch.setenv(name, value)
    register_secrets(OmegaConf.create({"x": f"${{oc.env:{name}}}"}))
    assert (value not in redact(f"got {value}")) == (hidden or "p4ss" in value)
    assert "p4ss" not in redact("the password is p4ss") or "p4ss" not in value


def test_a_log_hides_them_in_tracebacks_too():
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "at %s", ("http://u:l0gged@h",), None)
    try:
        raise ValueError("no http://u:l0gged@h")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    RedactingFilter().filter(record)
    text = logging.Formatter().format(record)
    assert "at http://u:***@h" in text
    assert "l0gged" not in text.replace('raise ValueError("no http://u:l0gged@h")', "")
