"""What the schemas of the commands say about a wrong value: rules in words, none of a library's."""

from __future__ import annotations

import pytest

from eyegender.core.command import prepare_arguments
from eyegender.core.errors import UserError
from eyegender.core.options import CompareOptions, DemoOptions, PromoteOptions
from eyegender.core.schema import parse, parse_as
from tests.composing import compose_config


@pytest.mark.parametrize(
    ("command", "kind", "override", "message"),
    [
        ("promote", PromoteOptions, "name=own:model", "name must be letters, digits, .* only, got 'own:model'$"),
        ("promote", PromoteOptions, "alias='a b'", "alias must be letters, digits, _ and - only, got 'a b'$"),
        (
            "compare",
            CompareOptions,
            "by=test/f1",
            "by must be a validation metric, such as val/accuracy, got 'test/f1'$",
        ),
        ("compare", CompareOptions, "runs=[]", r"runs must have at least 1 item, got \[\]$"),
        ("demo", DemoOptions, "models=[]", r"models must have at least 1 item, got \[\]$"),
        ("demo", DemoOptions, "host='a b'", "host must be an address or a name .*, got 'a b'$"),
    ],
)
def test_a_rule_is_said_in_words(command: str, kind: type[PromoteOptions], override: str, message: str) -> None:
    given = ["run=x"] if command == "promote" and not override.startswith("run=") else []
    with pytest.raises(UserError, match=message):
        parse_as(compose_config(override, *given, name=command), kind)


@pytest.mark.parametrize("key", ["monitor=val/recall/ant", "objectives=[val/recall/ant,parameters]"])
def test_metrics_of_two_classes_are_called_so(key: str) -> None:
    with pytest.raises(UserError, match=r"'val/calibration_error', of two classes 'val/tn', 'val/fp', 'val/fn'"):
        parse(compose_config(key))


def test_the_demo_takes_model_as_the_other_commands_do() -> None:
    assert prepare_arguments(["model=runs:/x", "port=0"], "demo") == ["models=runs:/x", "port=0"]
    assert prepare_arguments(["model=inception_v3"], "train") == ["model=inception_v3"]
