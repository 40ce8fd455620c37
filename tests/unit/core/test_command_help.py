"""`--help` of a command: its purpose, three examples, its groups, and every key with its value and its meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException

from eyegender.__main__ import COMMANDS
from eyegender.core.command_line.command_help import help_text
from eyegender.core.config_files import register_config, register_sweeps
from eyegender.core.objectives import register_resolvers
from tests.unit.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_TRACKING = dict.fromkeys(("compare", "predict", "promote", "export", "export-report", "demo"), ("tracking",))
GROUPS: dict[str, tuple[str, ...] | None] = {
    **_TRACKING, "evaluate": ("data", "tracking"), "train": None, "audit": None, "study": (), "sync": (),
}  # fmt: skip
WIDTHS = (80, 120)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command registers is gone after the test."""
    monkeypatch.setattr(ConfigStore.instance(), "repo", {**ConfigStore.instance().repo})
    register_resolvers()


def shown(command: str, *overrides: str, config_dir: Path | None = None) -> str:
    groups = GROUPS[command]
    register_sweeps() if groups is None else register_config(command, groups)
    return help_text(command, groups, overrides, config_dir)


def rows(text: str) -> dict[str, str]:
    """The meaning of each `key=value` row."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("\nKeys: ")[2].partition("\nFlags")[0].splitlines():
        if row := re.match(r"  ([\w.]+=\S*(?: \S+)*)(?:  +(.*))?$", line):
            name, found[row[1]] = row[1], row[2] or ""
        elif line.startswith("      "):
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def test_every_command_is_tested() -> None:
    assert sorted(GROUPS) == sorted(COMMANDS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_says_what_the_command_is_for_with_three_examples(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(command)
    assert re.match(r"[A-Z].*\.", text.splitlines()[0])
    assert len(re.findall(rf"^  eyegender {command}\b", text, re.MULTILINE)) == 3
    long = [line for line in text.splitlines() if len(line) > width]
    assert [line for line in long if not re.match(r"  (eyegender |[\w.]+=\S+$)", line)] == []
    assert "_common" not in text
    assert "paper_honest" not in text  # the former name of another experiment


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_has_its_meaning(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = rows(shown(command))
    assert len(found) >= (60 if command in {"train", "audit"} else 2)
    assert [key for key, meaning in found.items() if len(meaning) < 4] == []


@pytest.mark.parametrize("choice", ["data=celeba", "data=folder", "model=inception_v3", "optimizer=sgd"])
def test_the_keys_are_those_of_the_present_choice(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = shown("train", choice)
    group, _, option = choice.partition("=")
    assert re.search(rf"^  {group}= .*\*{option}\b", text, re.MULTILINE)
    assert f"\n{choice}: " in text
    keys = {row.partition("=")[0] for row in rows(text)}
    assert ("data.root" in keys) == (group == "data")
    assert ("data.n" in keys) == (group != "data")
    assert not any(meaning == "" for meaning in rows(text).values())


def test_the_present_values_are_shown_and_what_must_be_set_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = shown("train", "data=folder", "model.lr=0.5", "data.subset={female: 3, male: 4}", "experiment=paper_grouped")
    found = rows(text)
    assert {"model.lr=0.5", "model.head=paper", "mode=max", "model.head_lr=${model.lr}"} <= found.keys()
    assert "data.subset={female: 3, male: 4}" in found
    data = [row for row in found if row.startswith("data.")]
    assert data[0] == "data.root=???"


def test_the_groups_of_a_users_folder_are_listed() -> None:
    text = shown("train", "model=resnet18", config_dir=ROOT / "docs/examples/my_eyes/conf")
    assert re.search(r"^  model= .*inception_v3, mobilenet_v2, \*resnet18", text, re.MULTILINE)
    assert re.search(r"^  data= .*csv", text, re.MULTILINE)


def test_a_sweep_is_listed_where_one_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"^  \+sweeps= +backbones, cluster, finetune", shown("train"), re.MULTILINE)
    assert "sweeps" not in shown("compare")
    assert "Groups" not in shown("study")


def test_wrong_overrides_are_refused() -> None:
    with pytest.raises(HydraException, match="resnet19"):
        shown("train", "model=resnet19")
