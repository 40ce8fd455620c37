"""The page for users of other tools: all that it says of ours composes, and each tool has a table and a remark."""

from __future__ import annotations

import re
import shlex

import pytest

from eyegender.core.schema import parse
from tests.composing import compose_config
from tests.unit.docs.pages import ROOT, inline_code, ours_of
from tests.unit.docs.test_pages import one_value

PAGE = ROOT / "docs/coming-from.md"
CODE = dict.fromkeys(inline_code(ours_of(PAGE)))
# Of a training or a sweep; test_pages.py composes whole commands. Ray's launcher is not among the extras.
OVERRIDES = [code for code in CODE if all("=" in word for word in shlex.split(code)) and "launcher=ray" not in code]


def test_there_is_something_to_compose() -> None:
    assert len(OVERRIDES) > 40


@pytest.mark.parametrize("code", OVERRIDES)
def test_overrides_compose_to_a_training(code: str) -> None:
    words = shlex.split(code)
    # Without a sweep, Hydra's own sweeper is chosen.
    sweep = ["+sweeps=finetune"] if "hydra" in code and not any(word.startswith("+sweeps=") for word in words) else []
    parse(compose_config(*sweep, *map(one_value, words)))


@pytest.mark.parametrize("section", re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:], ids=lambda s: s[:12])
def test_each_tool_has_one_table_and_a_remark_on_what_is_not_here(section: str) -> None:
    title, _, rest = section.partition("\n")
    assert title in {
        "lightning-hydra-template", "hydra-optuna-sweeper", "Ray Tune", "W&B sweeps", "Keras and Keras Tuner",
    }  # fmt: skip
    assert rest.count("| there | here |") == 1
    assert rest.count("\nNot here: ") == 1
    assert all(row.count("|") == 3 for row in rest.splitlines() if row.startswith("|"))
